//! The harness of the whole-system tests: machines as network namespaces, their networks and the faults of those,
//! processes, and the admin API as a user reaches it.
//!
//! It knows vouch only from outside: it starts the `vouch` binary, talks to the HTTP API and reads what the command line
//! prints. What it makes on the machine it takes away again, whether a test ends well or in a panic.

pub mod api;
pub mod chaos;
pub mod disk;
pub mod machine;
pub mod netns;
pub mod paths;
pub mod process;
pub mod story;
pub mod wait;
pub mod wall_clock;
