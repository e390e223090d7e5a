"""
The pure core: what a payment is, and what may become of it.

Imports the standard library and `transitions`, does no I/O, reads no clock and
rolls no dice. Read in this order: `money`, `fields`, `errors`, `payment`,
`machine`, `operation`, `verdict`, `outcome`, `policy`, `decide`, `entry`.
"""
