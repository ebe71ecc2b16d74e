//! Draining on SIGINT and SIGTERM; a second signal stops at once.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::remote::Remote;

/// Watches for signals until it is dropped.
#[derive(Debug)]
pub(crate) struct SignalDrain {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalDrain {
    pub(crate) fn install<M: Send + 'static>(remote: Remote<M>, deadline: Duration) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let watch = move || {
            for (count, _) in signals.forever().enumerate() {
                if count == 0 {
                    remote.start_drain(deadline);
                } else {
                    remote.stop();
                }
            }
        };
        let thread = std::thread::Builder::new().name("shardgram-signals".to_owned()).spawn(watch)?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for SignalDrain {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It ends at once, and has nothing to say.
            let _ = thread.join();
        }
    }
}
