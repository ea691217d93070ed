//! `vouch-sim`: plays simulations from the command line. `cargo xtask sim` builds it with optimisation and runs it.

fn main() {}
