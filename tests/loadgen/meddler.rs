//! A server that mistreats datagrams in ways it counts.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) struct Meddler {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Deeds>,
}

#[derive(Debug, Default)]
pub(crate) struct Deeds {
    pub(crate) received: u64,
    pub(crate) dropped: u64,
    pub(crate) duplicated: u64,
    pub(crate) corrupted: u64,
    pub(crate) swapped: u64,
}

impl Meddler {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("its address");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || meddle(&socket, &stopped));
        Self { address, stop, thread }
    }

    pub(crate) fn end(self) -> Deeds {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server lives")
    }
}

/// Of every ten datagrams one is dropped, one sent back twice, one with a wrong byte, and one after its
/// successor.
fn meddle(socket: &UdpSocket, stop: &AtomicBool) -> Deeds {
    let mut deeds = Deeds::default();
    let mut held: Option<Vec<u8>> = None;
    let mut bytes = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        let datagram = &mut bytes[..len];
        let echo = |datagram: &[u8]| socket.send_to(datagram, from).expect("loopback takes it");
        deeds.received += 1;
        match deeds.received % 10 {
            2 => deeds.dropped += 1,
            4 => {
                deeds.duplicated += 1;
                echo(datagram);
                echo(datagram);
            }
            6 => {
                deeds.corrupted += 1;
                datagram[deeds.received as usize / 10 % len] ^= 0x10;
                echo(datagram);
            }
            8 => held = Some(datagram.to_vec()),
            _ => {
                echo(datagram);
                if let Some(held) = held.take() {
                    deeds.swapped += 1;
                    echo(&held);
                }
            }
        }
    }
    deeds
}
