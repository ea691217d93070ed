//! Keeping one's own certificate good without a restart: who owns it asks the managers now and then, gets a new one
//! when half of its life is over, and learns which CAs are to be trusted.
//!
//! The key is kept and only the certificate is made anew. So key and certificate fit together whenever a machine dies,
//! since one file is exchanged and not two; and a manager that is asked proves by TLS that the asker has the key. Who
//! wants another key joins anew.
//!
//! When, is pure (`due`); where it is kept, is files or nothing (`kept`); `task` does it.

mod due;
mod kept;
mod task;

pub use due::{RENEW_SPREAD_PERCENT, renew_at, share_of};
pub use kept::Kept;
pub use task::{CHECK_DEFAULT, CHECK_MAX, RETRY, RenewalReport, RenewalTask, TELL_EVERY};
