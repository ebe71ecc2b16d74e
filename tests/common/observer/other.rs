//! Every other system: as quinn-udp does it. Trains are sent by nobody there.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use shardgram::Ecn;
use shardgram_conformance::{Came, Sending};

pub fn observer(ip: IpAddr) -> UdpSocket {
    UdpSocket::bind((ip, 0)).expect("a free port")
}

/// What quinn-udp knows of a socket, which is left blocking.
fn state(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(socket.into())?;
    socket.set_nonblocking(false)?;
    Ok(state)
}

pub fn send(socket: &UdpSocket, to: SocketAddr, what: Sending<'_>) -> io::Result<()> {
    assert_eq!(what.segment, None, "the table has no trains here");
    let ecn = EcnCodepoint::from_bits(what.ecn.bits());
    let transmit = Transmit { destination: to, ecn, contents: what.bytes, segment_size: None, src_ip: None };
    state(socket)?.try_send(socket.into(), &transmit)
}

pub fn receive(socket: &UdpSocket) -> io::Result<Came> {
    let (mut bytes, mut meta) = (vec![0; 70_000], [RecvMeta::default()]);
    state(socket)?.recv(socket.into(), &mut [IoSliceMut::new(&mut bytes)], &mut meta)?;
    let [RecvMeta { addr, len, stride, ecn, .. }] = meta;
    bytes.truncate(len);
    let ecn = Some(ecn.map_or(Ecn::NotEct, |mark| Ecn::from_bits(mark as u8)));
    Ok(Came { from: addr, ecn, segment: (stride < len).then_some(stride), bytes })
}
