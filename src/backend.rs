//! Which driver serves, and why.

use shardgram_core::{Backend, Config, Receivers};
use shardgram_sys::Sharing;

use crate::drivers::{Granted, Refused, Ring, prepare_uring};
use crate::error::StartError;

/// The driver that was taken, never [`Backend::Auto`], and why not the better one.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) backend: Backend,
    /// One word for the ready line.
    pub(crate) reason: Option<String>,
    /// With io_uring one for each shard.
    pub(crate) rings: Vec<Ring>,
    /// What was granted less of than was asked for.
    pub(crate) warning: Option<String>,
}

/// Takes what was asked for, or the best there is. With io_uring all rings are made here: a shard that failed
/// to get its own later would leave nothing to fall back to, since others would be serving by then.
pub(crate) fn choose(config: &Config, sharing: Sharing) -> Result<Choice, StartError> {
    let asked = config.settings().backend;
    let mio = |reason| Choice { backend: Backend::Mio, reason, rings: Vec::new(), warning: None };
    if asked == Backend::Mio {
        return Ok(mio(None));
    }
    // Where io_uring can be had the system divides what comes to a port, so this was asked for.
    if sharing == Sharing::OneReceiver && config.settings().receivers == Receivers::One {
        if asked == Backend::Uring {
            let reason = "receivers=one is served by the mio driver: ask for receivers=auto".to_owned();
            return Err(StartError::BackendRefused { backend: asked, reason });
        }
        return Ok(mio(Some("receivers:one".to_owned())));
    }
    match prepare_uring(config) {
        Ok(Granted { rings, warning }) => {
            Ok(Choice { backend: Backend::Uring, reason: None, rings, warning })
        }
        Err(refused) if asked == Backend::Uring => {
            Err(StartError::BackendRefused { backend: asked, reason: refused.reason })
        }
        Err(Refused { brief, reason }) => {
            tracing::warn!(reason, "io_uring cannot be used: serving with mio");
            Ok(mio(Some(brief)))
        }
    }
}
