//! The memory of this machine: how much is left, and in which pages it comes.

use std::io;

use rustix::thread::disable_transparent_huge_pages;

const FILE: &str = "/proc/meminfo";

/// Has the kernel give this process pages of 4 KiB only (PR_SET_THP_DISABLE of prctl(2)). What a watcher allocates is small
/// and lies scattered: in pages of 2 MiB it takes twice as much, and is no faster for it.
///
/// # Errors
/// As prctl(2): on kernels that know nothing of it, which have no such pages either.
pub fn use_small_pages() -> io::Result<()> {
    Ok(disable_transparent_huge_pages(true)?)
}

/// Returns how many bytes can be given out without taking from what runs (proc_meminfo(5), `MemAvailable`); `None` where
/// the kernel does not tell.
pub fn available() -> Option<u64> {
    in_meminfo(&std::fs::read_to_string(FILE).ok()?)
}

fn in_meminfo(text: &str) -> Option<u64> {
    let told = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = told.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read_and_nothing_is_made_of_what_it_does_not() {
        assert!(available().is_some_and(|bytes| bytes > 0));
        let told = "MemTotal:         125464 kB\nMemFree:           74584 kB\nMemAvailable:      80016 kB\n";
        assert_eq!(in_meminfo(told), Some(80_016 * 1024));
        for odd in ["", "MemTotal: 1 kB\n", "MemAvailable: many kB\n", "MemAvailable: 18446744073709551615 kB\n"] {
            assert_eq!(in_meminfo(odd), None, "{odd}");
        }
    }
}
