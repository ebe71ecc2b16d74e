//! Which driver serves, and why.

use shardgram_core::Backend;

use crate::drivers::{Refused, uring_refusal};
use crate::error::StartError;

/// The driver that was taken, never [`Backend::Auto`], and why not the better one.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) backend: Backend,
    /// One word for the ready line.
    pub(crate) reason: Option<String>,
}

/// Takes what was asked for, or the best there is.
pub(crate) fn choose(asked: Backend) -> Result<Choice, StartError> {
    let mio = |reason| Choice { backend: Backend::Mio, reason };
    let uring = Choice { backend: Backend::Uring, reason: None };
    match asked {
        Backend::Mio => Ok(mio(None)),
        Backend::Uring => match uring_refusal() {
            None => Ok(uring),
            Some(refused) => Err(StartError::BackendRefused { backend: asked, reason: refused.reason }),
        },
        _ => Ok(match uring_refusal() {
            None => uring,
            Some(Refused { brief, reason }) => {
                tracing::warn!(reason, "io_uring cannot be used: serving with mio");
                mio(Some(brief))
            }
        }),
    }
}
