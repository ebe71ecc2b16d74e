//! Draining on Ctrl-C and SIGTERM where signals can only set a flag.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::remote::Remote;

/// How often the flags are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Watches for signals until it is dropped.
#[derive(Debug)]
pub(crate) struct SignalDrain {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SignalDrain {
    pub(crate) fn install<M: Send + 'static>(remote: Remote<M>, deadline: Duration) -> io::Result<Self> {
        let (came, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&came))?;
        }
        let ends = Arc::clone(&over);
        let watch = move || {
            let mut draining = false;
            while !ends.load(Ordering::Acquire) {
                if came.swap(false, Ordering::AcqRel) {
                    if draining {
                        remote.stop();
                    } else {
                        remote.start_drain(deadline);
                    }
                    draining = true;
                }
                std::thread::sleep(LOOK);
            }
        };
        let thread = std::thread::Builder::new().name("shardgram-signals".to_owned()).spawn(watch)?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for SignalDrain {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
