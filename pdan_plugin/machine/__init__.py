"""The resources of this machine and their use by a network: cores, memory, number formats, compilers."""
