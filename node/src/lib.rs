//! What runs on a compute node: the hypervisor's drivers, the agent that reports to every manager, the relay that
//! watchers use, and the watcher VMs of this node.
//!
//! ```text
//! hypervisor (qemu, local) --view--> agent --reports--> managers
//!        |                             ^                    |
//!        +--fresh reads--> relay       +------orders--------+
//! ```
//!
//! A node speaks only for VMs that it owns. It never decides what a VM's state means: that is the managers' part.

pub mod agent;
pub mod config;
pub mod hearing;
pub mod hypervisor;
pub mod local_vm;
mod local_word;
pub mod membership;
pub mod process;
pub mod progress;
pub mod relay;
pub mod run;
pub mod store;
pub mod vm_file;
mod wall_clock;

pub use agent::{AgentConfig, AgentTask};
pub use config::{Config, ConfigError};
pub use hearing::Hearing;
pub use hypervisor::Hypervisor;
pub use hypervisor::run_dir::running_machines;
pub use local_vm::LocalVmOptions;
pub use process::ProcessIdentity;
pub use relay::Relay;
pub use run::{NodeError, run, run_until};
pub use store::NodeStore;
pub use vm_file::{VmFile, VmFolder};
