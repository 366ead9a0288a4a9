"""The walls between a function and the kernel: the filter of system calls (seccomp) and Landlock.

`numbers` are facts, `policy` says what is allowed, `bpf` compiles it, `landlock` says what may be done with which files,
`built` puts the four together for this machine, and `findings` tries what the kernel has. Standard library only: the keeper
lives on it.
"""
