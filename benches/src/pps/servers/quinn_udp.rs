//! quinn-udp: batches by `recvmmsg`, trains both ways; sleeps in poll(2).

use std::error::Error;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use super::{Mode, Task, Wait, announce};
use crate::pps::mmsg::{TRAIN_BYTES, TRAIN_STRIDE};
use crate::pps::system;
use crate::pps::tally::Tally;
use crate::pps::wire::Kind;

/// What there is to send after a batch: a piece of memory, cut into datagrams of `segment` bytes.
pub(super) struct Departure {
    to: SocketAddr,
    bytes: std::ops::Range<usize>,
    segment: usize,
    /// Where the bytes are: in the room of this message, or, if there is none, in the train.
    message: Option<usize>,
}

/// The loop's memory, for blocking and for tokio.
pub(super) struct Batch {
    state: UdpSocketState,
    memory: Vec<u8>,
    metas: Vec<RecvMeta>,
    /// Datagrams that came one by one are put side by side to leave as a train.
    train: Vec<u8>,
    departures: Vec<Departure>,
    peers: Vec<SocketAddr>,
    mode: Mode,
    segments: usize,
    tally: Tally,
}

impl Batch {
    pub(super) fn new(socket: &UdpSocket, task: &Task, tally: Tally) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        let segments = if task.no_trains { 1 } else { state.max_gso_segments() };
        Ok(Self {
            state,
            memory: vec![0; BATCH_SIZE * TRAIN_STRIDE],
            metas: vec![RecvMeta::default(); BATCH_SIZE],
            train: Vec::with_capacity(BATCH_SIZE * TRAIN_STRIDE),
            departures: Vec::with_capacity(BATCH_SIZE),
            peers: Vec::new(),
            mode: task.mode,
            segments,
            tally,
        })
    }

    /// Receives a batch, without waiting; says how many messages came.
    pub(super) fn receive(&mut self, socket: UdpSockRef<'_>) -> io::Result<usize> {
        let mut rooms = self.memory.chunks_exact_mut(TRAIN_STRIDE);
        let mut rooms: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        self.state.recv(socket, &mut rooms, &mut self.metas)
    }

    /// Counts what came, and plans what is to be sent; says how many departures that are.
    pub(super) fn plan(&mut self, came: usize) -> usize {
        self.departures.clear();
        self.train.clear();
        for at in 0..came {
            let RecvMeta { addr, len, stride, .. } = self.metas[at];
            let bytes = &self.memory[at * TRAIN_STRIDE..][..len];
            self.tally.saw_train(bytes, stride);
            match self.mode {
                Mode::Sink => {}
                Mode::Echo => self.reply(at, addr, len, stride),
                Mode::Fanout if Kind::of(bytes) == Kind::Publish => {
                    for &to in &self.peers {
                        self.departures.push(Departure {
                            to,
                            bytes: 0..len,
                            segment: len,
                            message: Some(at),
                        });
                    }
                }
                Mode::Fanout => {
                    if !self.peers.contains(&addr) {
                        self.peers.push(addr);
                    }
                    self.reply(at, addr, len, stride);
                }
            }
        }
        self.departures.len()
    }

    /// Plans an answer: a train leaves from where it lies, datagrams that came one by one join the one before
    /// if that goes to the same peer and has their size.
    fn reply(&mut self, message: usize, to: SocketAddr, len: usize, stride: usize) {
        if len > stride {
            let departure = Departure { to, bytes: 0..len, segment: stride, message: Some(message) };
            return self.departures.push(departure);
        }
        let start = self.train.len();
        self.train.extend_from_slice(&self.memory[message * TRAIN_STRIDE..][..len]);
        if let Some(last) = self.departures.last_mut() {
            let whole = last.bytes.len() % last.segment.max(1) == 0;
            let room = last.bytes.len() + len <= TRAIN_BYTES
                && last.bytes.len() / last.segment.max(1) < self.segments;
            if last.message.is_none() && last.to == to && len <= last.segment && whole && room {
                last.bytes.end += len;
                return;
            }
        }
        self.departures.push(Departure { to, bytes: start..start + len, segment: len, message: None });
    }

    /// Sends one of them, without waiting.
    pub(super) fn depart(&self, socket: UdpSockRef<'_>, at: usize) -> io::Result<()> {
        let Departure { to, bytes, segment, message } = &self.departures[at];
        let memory = message.map_or(&self.train[..], |at| &self.memory[at * TRAIN_STRIDE..]);
        let contents = &memory[bytes.clone()];
        let segment_size = (contents.len() > *segment).then_some(*segment);
        let transmit = Transmit { destination: *to, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send(socket, &transmit)
    }
}

pub(super) fn serve(task: &Task, tally: Tally) -> Result<(), Box<dyn Error>> {
    let socket = system::listener()?;
    let mut batch = Batch::new(&socket, task, tally)?;
    announce(socket.local_addr()?);
    loop {
        let came = match batch.receive(UdpSockRef::from(&socket)) {
            Ok(came) => came,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if task.wait == Wait::Block {
                    system::wait_readable(&socket, None)?;
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for at in 0..batch.plan(came) {
            while let Err(error) = batch.depart(UdpSockRef::from(&socket), at) {
                if error.kind() != ErrorKind::WouldBlock {
                    return Err(error.into());
                }
                system::wait_writable(&socket)?;
            }
        }
    }
}
