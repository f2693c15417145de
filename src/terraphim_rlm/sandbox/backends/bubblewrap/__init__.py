"""The embedded backend: bubblewrap, a seccomp filter, control groups where they can be had. No root needed."""
