//! Benchmarks: what a number of DESIGN section 9 costs on the machine at hand, side by side with its peer.
