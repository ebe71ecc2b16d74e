//! Why io_uring cannot be used, and what would help.

use std::io;

/// Why io_uring cannot be used: which step failed, with what, and what would help.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {error} ({remedy})")]
pub struct Refusal {
    step: &'static str,
    error: io::Error,
    remedy: &'static str,
}

impl Refusal {
    pub(crate) fn new(step: &'static str, error: io::Error) -> Self {
        let remedy = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "set the sysctl kernel.io_uring_disabled to 0, or allow io_uring in the seccomp profile"
            }
            Some(libc::ENOSYS) => "run Linux 6.1 or later, outside a sandbox without io_uring",
            Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK (ulimit -l)",
            Some(libc::EMFILE | libc::ENFILE) => "raise RLIMIT_NOFILE (ulimit -n)",
            _ => "run Linux 6.1 or later",
        };
        Self { step, error, remedy }
    }

    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.error.raw_os_error() == Some(libc::ENOMEM)
    }

    /// A short form for one line of log: the step and the error's name.
    pub fn brief(&self) -> String {
        let name = match self.error.raw_os_error() {
            Some(libc::EPERM) => "EPERM",
            Some(libc::EACCES) => "EACCES",
            Some(libc::ENOSYS) => "ENOSYS",
            Some(libc::ENOMEM) => "ENOMEM",
            Some(libc::EMFILE) => "EMFILE",
            Some(libc::EINVAL) => "EINVAL",
            _ => return format!("{}:{}", self.step, self.error).replace(' ', "_"),
        };
        format!("{}:{name}", self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_remedy() {
        let refusal = Refusal::new("io_uring_setup", io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(refusal.brief(), "io_uring_setup:EPERM");
        assert!(refusal.to_string().contains("kernel.io_uring_disabled"), "{refusal}");
    }
}
