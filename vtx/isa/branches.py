"""Near control flow: JMP CALL RET Jcc LOOP SETcc."""
