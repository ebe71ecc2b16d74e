//! Every system but Linux: what becomes of a listener whose interface is made anew is not looked at.

use std::io;
use std::sync::Arc;

use shardgram_core::Stats;

use crate::bound::Bound;
use crate::error::StartError;

#[derive(Debug)]
pub(crate) struct TiedListeners;

/// There is none.
#[derive(Debug)]
pub(crate) enum TiedThread {}

impl TiedListeners {
    pub(crate) fn among(_: &Bound) -> Result<Self, StartError> {
        Ok(Self)
    }

    pub(crate) fn follow(self, _: Arc<[Arc<Stats>]>) -> io::Result<Option<TiedThread>> {
        Ok(None)
    }
}
