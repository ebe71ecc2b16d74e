//! Linux: by sendmsg(2) and recvmsg(2).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use shardgram::Ecn;
use shardgram_conformance::{Came, Sending};
use shardgram_sys::{Heading, send_message};

use crate::common::marks::{Marker, Message, receive_message};

pub fn observer(ip: IpAddr) -> UdpSocket {
    Marker::new(ip).socket
}

pub fn send(socket: &UdpSocket, to: SocketAddr, what: Sending<'_>) -> io::Result<()> {
    let class = what.dscp | what.ecn.bits();
    let traffic_class = (class != 0).then_some(class);
    let heading = Heading { to, from: None, segment: what.segment, traffic_class };
    send_message(socket, &heading, &[io::IoSlice::new(what.bytes)])
}

pub fn receive(socket: &UdpSocket) -> io::Result<Came> {
    let Message { from, class, segment, bytes } = receive_message(socket)?;
    Ok(Came { from, ecn: class.map(Ecn::from_bits), segment, bytes })
}
