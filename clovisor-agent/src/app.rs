//! Builds the stages, connects them, drains them in reverse.
