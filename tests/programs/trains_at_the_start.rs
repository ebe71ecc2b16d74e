//! A server that is to receive no trains receives their datagrams, those of trains that come while it starts too. A
//! supervisor sends one whenever the server says what it wants of UDP_GRO.

use std::fs::File;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use crate::common::{PATIENCE, loopback, role, seccomp};
use shardgram::{Accept, Backend, Context, Datagram, Handler, PeerId, Server};
use shardgram_sys::{Heading, send_message};

/// Tells how long datagrams are.
struct Lengths(Sender<usize>);

impl Handler for Lengths {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let _ = self.0.send(first.len());
        Accept::Done
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: Datagram<'_>) {}
}

const DATAGRAM: usize = 100;
const TRAIN: usize = 3;
/// What ends the test.
const LAST: usize = 1;

fn send_train(to: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let heading = Heading { to, from: None, segment: Some(DATAGRAM as u16), traffic_class: None };
    send_message(&socket, &heading, &[IoSlice::new(&[0; TRAIN * DATAGRAM])]).expect("sent");
}

fn serve() {
    let server = Server::bind(loopback().trains(false).backend(Backend::Mio)).expect("it binds");
    let at = server.local_addrs()[0];
    println!("\n{at}");
    let (tell, lengths) = channel();
    let handle = server.spawn(move |_| Lengths(tell.clone())).expect("it starts");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; LAST], at).unwrap();
    let lengths: Vec<_> = lengths.iter().take_while(|length| *length != LAST).collect();
    assert!(!lengths.is_empty() && lengths.iter().all(|length| *length == DATAGRAM), "{lengths:?}");
    assert_eq!(lengths.len() % TRAIN, 0, "{lengths:?}");
    handle.drain(PATIENCE).expect("it drains");
}

/// All that was said; the program that says it goes on where it is.
fn read(said: &File) -> String {
    let mut bytes = vec![0; 1 << 16];
    let len = said.read_at(&mut bytes, 0).expect("a file");
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[test]
fn a_train_while_the_server_starts() {
    const ME: &str = "trains_at_the_start::a_train_while_the_server_starts";
    if role::mine().is_some() {
        return serve();
    }
    let said = tempfile::tempfile().expect("a file");
    let mut command = Command::new(std::env::current_exe().unwrap());
    role::play(&mut command, ME, "server");
    command.stdout(said.try_clone().expect("a file")).stderr(said.try_clone().expect("a file"));
    let mut child = seccomp::ask_first(&mut command, libc::SYS_setsockopt).spawn().expect("it starts");
    let mut trains = 0;
    let judge = |arguments: [u64; 6], _: &File| {
        if (arguments[1] as i32, arguments[2] as i32) == (libc::SOL_UDP, libc::UDP_GRO)
            && let Some(to) = read(&said).lines().find_map(|line| line.parse().ok())
        {
            send_train(to);
            trains += 1;
        }
        None
    };
    let status = seccomp::supervise(&mut child, judge);
    assert!(status.success() && trains > 0, "{trains} trains: {}", read(&said));
}
