//! What others notice of a handler that panics: one bad datagram a second from one address, while 100 clients at other
//! addresses ask every 10 ms.
//!
//! `cargo run --release -p shardgram-benches --bin panics`
//!
//! Once for each driver and for each choice of what is kept ([`AfterPanic`]), with the bad datagrams from one port and
//! from a new one each second. Prints how many of the questions were answered and the longest time from a question to its answer, and
//! fails if another client lost anything. All clients are asked for by one thread, evenly spaced.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use shardgram::{Accept, AfterPanic, Backend, Config, Context, Datagram, Handler, PeerId, Server};

const CLIENTS: usize = 100;
const SECONDS: u32 = 5;
/// How often each client asks.
const EVERY: Duration = Duration::from_millis(10);
/// How long an answer is waited for in the end.
const PATIENCE: Duration = Duration::from_secs(2);
const BAD: &[u8] = b"bad";

/// Echoes, and panics over what is bad.
struct Fragile<const KEEPS: u8>;

impl<const KEEPS: u8> Handler for Fragile<KEEPS> {
    type Peer = ();
    type Timer = ();
    type Message = ();

    const AFTER_PANIC: AfterPanic =
        [AfterPanic::Restart, AfterPanic::KeepPeers, AfterPanic::ClosePeer][KEEPS as usize];

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert_ne!(&*datagram, BAD, "as the datagram asks");
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }
}

struct Outcome {
    asked: u64,
    answered: u64,
    longest: Duration,
    panics: u64,
    refused: u64,
}

/// A client and what it has asked: when the question was sent whose number is the place.
struct Client {
    socket: UdpSocket,
    asked: Vec<Instant>,
    answered: u64,
}

impl Client {
    fn new(number: usize, to: SocketAddr) -> Self {
        let at = SocketAddr::from(([127, 0, 0, 10 + (number % 200) as u8], 0));
        let socket = UdpSocket::bind(at).expect("an address of loopback");
        socket.connect(to).expect("a server");
        socket.set_nonblocking(true).expect("a socket");
        Self { socket, asked: Vec::new(), answered: 0 }
    }

    fn ask(&mut self) {
        let number = self.asked.len() as u32;
        self.asked.push(Instant::now());
        self.socket.send(&number.to_be_bytes()).expect("room");
    }

    /// Takes the answers that are there; the longest that one took.
    fn take(&mut self) -> Duration {
        let (mut longest, mut bytes) = (Duration::ZERO, [0; 4]);
        loop {
            match self.socket.recv(&mut bytes) {
                Ok(_) => {
                    self.answered += 1;
                    longest = longest.max(self.asked[u32::from_be_bytes(bytes) as usize].elapsed());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return longest,
                Err(error) => panic!("the server is gone: {error}"),
            }
        }
    }
}

fn measure<const KEEPS: u8>(backend: Backend, changes_ports: bool) -> Outcome {
    let config = Config::new().backend(backend).listen(([127, 0, 0, 1], 0).into());
    let server = Server::bind(config).expect("a server");
    let to = server.local_addrs()[0];
    let handle = server.spawn(|_| Fragile::<KEEPS>).expect("it starts");
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| Client::new(number, to)).collect();
    let bad = || UdpSocket::bind("127.0.0.9:0").expect("an address of loopback");
    let (mut attacker, mut longest) = (bad(), Duration::ZERO);
    let (start, pace) = (Instant::now(), EVERY / CLIENTS as u32);
    let questions = SECONDS * (Duration::from_secs(1).as_nanos() / pace.as_nanos()) as u32;
    for number in 0..questions {
        let due = start + pace * number;
        if number % (questions / SECONDS) == 0 {
            if changes_ports {
                attacker = bad();
            }
            attacker.send_to(BAD, to).expect("room");
        }
        clients[number as usize % CLIENTS].ask();
        loop {
            longest = clients.iter_mut().map(Client::take).fold(longest, Duration::max);
            if Instant::now() >= due + pace {
                break;
            }
        }
    }
    let all = |clients: &[Client]| clients.iter().map(|client| client.answered).sum::<u64>();
    let end = Instant::now() + PATIENCE;
    while all(&clients) < questions.into() && Instant::now() < end {
        longest = clients.iter_mut().map(Client::take).fold(longest, Duration::max);
    }
    let stats = handle.drain(PATIENCE).expect("it drains").total;
    Outcome {
        asked: questions.into(),
        answered: all(&clients),
        longest,
        panics: stats.restarts,
        refused: stats.dropped_refused_source,
    }
}

fn main() -> ExitCode {
    // What panics by intent is not to fill the screen.
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<String>();
        if !text.is_some_and(|text| text.contains("as the datagram asks")) {
            eprintln!("{info}");
        }
    }));
    println!(
        "{CLIENTS} clients ask each {EVERY:?} for {SECONDS} s; a bad datagram a second from another address"
    );
    println!("driver  kept      bad ports   answered          share     longest   panics  refused");
    let mut lost = false;
    for backend in [Backend::Uring, Backend::Mio] {
        if backend == Backend::Uring && Server::bind(Config::new().backend(backend)).is_err() {
            println!("io_uring cannot be had here");
            continue;
        }
        for (kept, measure) in [
            ("nothing", measure::<0> as fn(Backend, bool) -> Outcome),
            ("peers", measure::<1>),
            ("handler", measure::<2>),
        ] {
            for changes_ports in [false, true] {
                let Outcome { asked, answered, longest, panics, refused } = measure(backend, changes_ports);
                let ports = if changes_ports { "changing" } else { "one" };
                let share = 100.0 * answered as f64 / asked as f64;
                println!(
                    "{:<7} {kept:<9} {ports:<9} {answered:>7} of {asked:<7} {share:>6.2} % {longest:>12.2?} {panics:>6} {refused:>8}",
                    backend.to_string()
                );
                lost |= answered != asked;
            }
        }
    }
    if lost {
        println!("somebody else lost something");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
