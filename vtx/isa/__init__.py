"""The instruction set: an algebra of total operations and, per instruction family, its meaning.

Reading order: primitives, layout, program, builder, flags, key, instruction, then the families.
This package describes; it runs nothing and knows no executor, device or VMM.
"""
