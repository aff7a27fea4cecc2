"""What this machine has and what a network takes of it: cores, memory, number formats, compilers."""
