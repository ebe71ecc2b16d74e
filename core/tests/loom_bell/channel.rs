//! A bounded channel for one receiver, of as little order as crossbeam's promises: what was sent is seen by
//! who has seen the count of what was sent, and that count is an atomic like any other. A mutex around
//! everything would order more, and hide a missing fence.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
    capacity: usize,
    sent: AtomicUsize,
    received: AtomicUsize,
    receiver_gone: AtomicBool,
}

pub(crate) struct Sender<T>(Arc<Shared<T>>);

pub(crate) struct Receiver<T>(Arc<Shared<T>>);

pub(crate) enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(VecDeque::new()),
        capacity,
        sent: AtomicUsize::new(0),
        received: AtomicUsize::new(0),
        receiver_gone: AtomicBool::new(false),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Shared<T> {
    fn len(&self) -> usize {
        // What was received first: it is never more than what was sent.
        let received = self.received.load(Ordering::Acquire);
        self.sent.load(Ordering::Acquire) - received
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let shared = &*self.0;
        let mut queue = shared.queue.lock().unwrap();
        if shared.receiver_gone.load(Ordering::Relaxed) {
            return Err(TrySendError::Disconnected(item));
        }
        if queue.len() == shared.capacity {
            return Err(TrySendError::Full(item));
        }
        queue.push_back(item);
        drop(queue);
        shared.sent.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Receiver<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn try_recv(&self) -> Result<T, ()> {
        if self.is_empty() {
            // It may be in the queue and not be counted yet.
            return Err(());
        }
        let item = self.0.queue.lock().unwrap().pop_front().ok_or(())?;
        self.0.received.fetch_add(1, Ordering::Release);
        Ok(item)
    }
}

impl<T> Drop for Receiver<T> {
    /// Nothing is taken any more, and what is there is dropped.
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap();
        self.0.receiver_gone.store(true, Ordering::Relaxed);
        let left = std::mem::take(&mut *queue);
        drop(queue);
        drop(left);
    }
}
