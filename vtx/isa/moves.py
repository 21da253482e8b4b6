"""Data movement: MOV, exchanges, extensions, conditional moves, flag moves."""
