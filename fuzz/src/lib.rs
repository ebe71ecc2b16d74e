//! What the fuzz targets do with their bytes.
//!
//! Each function takes any bytes, and panics where the code under test breaks a promise. libFuzzer calls them
//! (`fuzz_targets/`), and so does an ordinary test with pseudo-random bytes (`shard/tests/fuzz_targets.rs`,
//! which includes this file), so none of them waits for somebody to fuzz.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use shardgram_shard::completion::{Completion, decode};
use shardgram_shard::ownership::{Ownership, State};
use shardgram_shard::recv::{Layout, Layouts, NAME_SPACE, Received, parse};
use shardgram_shard::user_data::UserData;
use shardgram_sys::cmsg::Reports;
use shardgram_sys::{Control, ControlBuilder, ControlSpace, RECV_CONTROL_SPACE, addr};

/// `struct io_uring_recvmsg_out`, and `struct cmsghdr` on systems of 64 bits.
const HEADER: usize = 16;

/// Takes numbers off the front of some bytes; noughts when there are no more.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_ne_bytes([0; 4].map(|_: u8| self.byte()))
    }

    fn ip(&mut self) -> IpAddr {
        if self.byte() & 1 == 0 {
            return [0; 4].map(|_: u8| self.byte()).into();
        }
        [0; 16].map(|_: u8| self.byte()).into()
    }
}

/// What a multishot `recvmsg` wrote, in layouts of all sizes: first bytes as they come, then with the lengths
/// that make them a datagram, or nearly.
pub fn recv_header(data: &[u8]) {
    let [none, least, most] = [0, 24, RECV_CONTROL_SPACE];
    let of_drivers = Layouts::new(Reports::default()).wildcard.control;
    for control in [none, least, most, of_drivers, usize::from(data.first().copied().unwrap_or(0))] {
        let layout = Layout { control };
        check_received(data, layout, parse(data, layout).as_ref());
    }
    let mut numbers = Numbers(data);
    let layout = Layout { control: [none, least, most, of_drivers][usize::from(numbers.byte() % 4)] };
    let name_len = u32::from(numbers.byte()) % 40;
    let control_len = u32::from(numbers.byte()) % (layout.control as u32 + 2);
    let (missing, flags) = (numbers.byte() as i8, numbers.word());
    let family = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX][usize::from(numbers.byte() % 3)] as u16;
    let rest = numbers.0;
    let payload_len = rest.len().saturating_sub(layout.payload() - HEADER);
    let claimed = (payload_len as u32).saturating_add_signed(i32::from(missing.max(-1)));
    let mut written = Vec::new();
    for word in [name_len, control_len, claimed, flags] {
        written.extend(word.to_ne_bytes());
    }
    written.extend(rest);
    if let Some(place) = written.get_mut(HEADER..HEADER + 2) {
        place.copy_from_slice(&family.to_ne_bytes());
    }
    // Control data that means something, where it should be.
    let mut space = ControlSpace::new();
    let local = Numbers(rest).ip();
    let len = ControlBuilder::new(&mut space).packet_info(local, 0).finish().min(layout.control);
    if let Some(place) = written.get_mut(HEADER + NAME_SPACE..HEADER + NAME_SPACE + len) {
        place.copy_from_slice(&space.bytes()[..len]);
    }
    let received = parse(&written, layout);
    check_received(&written, layout, received.as_ref());
    let needed = match i32::from(family) {
        libc::AF_INET => 8,
        libc::AF_INET6 => 28,
        _ => u32::MAX,
    };
    let makes_sense = written.len() >= layout.payload()
        && (needed..=NAME_SPACE as u32).contains(&name_len)
        && control_len as usize <= layout.control
        && claimed as usize >= payload_len;
    assert_eq!(received.is_some(), makes_sense, "{written:?}");
}

/// That all that was read stands where it should.
fn check_received(written: &[u8], layout: Layout, received: Option<&Received>) {
    let Some(received) = received else { return };
    let word = |at: usize| u32::from_ne_bytes(written[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(received.payload, layout.payload()..written.len());
    assert_eq!(addr::decode(&written[HEADER..HEADER + word(0)]), Some(received.remote));
    let control = HEADER + NAME_SPACE;
    assert_eq!(Control::parse(&written[control..control + word(4)]), received.control);
    assert_eq!(received.control_cut, word(12) & libc::MSG_CTRUNC as usize != 0);
    let (claimed, got) = (word(8), received.payload.len());
    match received.truncated_from {
        Some(whole) => assert!(whole == claimed && whole >= got),
        None => assert_eq!(claimed, got),
    }
}

/// Control messages as they come; such as have known kinds, with any data; and those that were built, which
/// come back; and such as were cut.
pub fn control_messages(data: &[u8]) {
    check_control(data);
    check_control(&messages(data));
    check_cut(data);

    let mut numbers = Numbers(data);
    let (which, ecn, interface, size) =
        (numbers.byte(), numbers.byte(), numbers.word(), numbers.word() as u16);
    let local = numbers.ip();
    let mut space = ControlSpace::new();
    let mut builder = ControlBuilder::new(&mut space).packet_info(local, interface);
    if which & 1 != 0 {
        builder = builder.traffic_class(ecn, local.is_ipv6());
    }
    if which & 2 != 0 {
        builder = builder.segment_size(size);
    }
    let len = builder.finish();
    assert!(len <= space.bytes().len());
    let read = Control::parse(&space.bytes()[..len]);
    assert_eq!(read.local, Some(local).filter(|local| !unusable(*local)));
    assert_eq!(read.ecn, (which & 1 != 0).then_some(ecn & 3));
    assert_eq!(read.segment_size, None, "UDP_SEGMENT is sent, UDP_GRO is received");
}

/// What the kernel writes of a train, in its order, with foreign messages before: cut anywhere, it is the whole story or is
/// known not to be.
fn check_cut(data: &[u8]) {
    let mut numbers = Numbers(data);
    let (segment, destination) = ((numbers.word() as u16).max(1), numbers.ip());
    let (is_train, needs_packet_info) = (numbers.byte() & 1 != 0, numbers.byte() & 1 != 0);
    let cut = usize::from(numbers.byte()) + usize::from(numbers.byte());
    let mut bytes = Vec::new();
    let mut message = |level: libc::c_int, kind: libc::c_int, data: &[u8]| {
        bytes.extend((HEADER + data.len()).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
    };
    let foreign = usize::from(numbers.byte() % 64);
    message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &vec![1; foreign]);
    if is_train {
        message(libc::SOL_UDP, libc::UDP_GRO, &libc::c_int::from(segment).to_ne_bytes());
    }
    match destination {
        IpAddr::V4(v4) => message(libc::SOL_IP, libc::IP_PKTINFO, &[&[0; 8], &v4.octets()[..]].concat()),
        IpAddr::V6(v6) => message(libc::SOL_IPV6, libc::IPV6_PKTINFO, &[&v6.octets()[..], &[0; 4]].concat()),
    }
    // put_cmsg in net/core/scm.c cuts the message that does not fit, its length too; then nothing fits.
    let mut at = 0;
    while at < cut && at < bytes.len() {
        let len = usize::from_ne_bytes(bytes[at..at + size_of::<usize>()].try_into().unwrap());
        if at + len > cut && at + HEADER <= cut {
            bytes[at..at + size_of::<usize>()].copy_from_slice(&(cut - at).to_ne_bytes());
        }
        at += len.next_multiple_of(size_of::<usize>());
    }
    let read = Control::parse(&bytes[..cut.min(bytes.len())]);
    if !read.may_lack(needs_packet_info) {
        assert_eq!(read.segment_size, is_train.then_some(segment), "cut at {cut} of {bytes:?}");
        assert!(!needs_packet_info || read.destination == Some(destination));
    }
    if cut >= bytes.len() {
        assert_eq!(read.destination, Some(destination));
    }
}

/// No datagram can leave from such an address.
fn unusable(local: IpAddr) -> bool {
    local.is_unspecified() || (local.is_ipv6() && local.is_multicast())
}

/// Whatever the bytes are, and wherever they lie.
fn check_control(bytes: &[u8]) {
    let control = Control::parse(bytes);
    assert!(control.ecn.is_none_or(|ecn| ecn < 4));
    assert!(control.segment_size != Some(0));
    assert!(!control.local.is_some_and(unusable), "nothing can leave from {:?}", control.local);
    let mut shifted = vec![0; bytes.len() + 7];
    for shift in 1..=7 {
        shifted[shift..shift + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Control::parse(&shifted[shift..shift + bytes.len()]), control, "shifted by {shift}");
    }
}

/// Messages of kinds that are known, and of a few that are not, one after the other.
fn messages(data: &[u8]) -> Vec<u8> {
    const KINDS: [(libc::c_int, libc::c_int); 7] = [
        (libc::SOL_IP, libc::IP_PKTINFO),
        (libc::SOL_IPV6, libc::IPV6_PKTINFO),
        (libc::SOL_UDP, libc::UDP_GRO),
        (libc::SOL_IP, libc::IP_TOS),
        (libc::SOL_IPV6, libc::IPV6_TCLASS),
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS),
        (libc::SOL_SOCKET, libc::SCM_RIGHTS),
    ];
    let (mut numbers, mut bytes) = (Numbers(data), Vec::new());
    while !numbers.0.is_empty() {
        let (level, kind) = KINDS[usize::from(numbers.byte()) % KINDS.len()];
        let len = usize::from(numbers.byte() % 33);
        bytes.extend((HEADER + len).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((0..len).map(|_| numbers.byte()));
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
    }
    bytes
}

/// A source address: what is read stands in the bytes, and nothing else does it need.
pub fn sockaddr(data: &[u8]) {
    let family = data.first_chunk().map(|bytes| i32::from(u16::from_ne_bytes(*bytes)));
    let needed = match family {
        Some(libc::AF_INET) => 8,
        Some(libc::AF_INET6) => 28,
        _ => usize::MAX,
    };
    let address = addr::decode(data);
    assert_eq!(address.is_some(), data.len() >= needed, "{data:?}");
    let Some(address) = address else { return };
    assert_eq!(address.port().to_be_bytes(), data[2..4]);
    match address {
        SocketAddr::V4(v4) => assert_eq!(v4.ip().octets(), data[4..8]),
        SocketAddr::V6(v6) => {
            assert_eq!(v6.ip().octets(), data[8..24]);
            assert_eq!(v6.scope_id().to_ne_bytes(), data[24..28]);
            assert_eq!(v6.flowinfo(), 0, "two flow labels are no two peers");
        }
    }
    assert_eq!(addr::decode(&data[..needed]), Some(address), "what follows changes nothing");
}

/// A completion: its result and flags, and what it is about.
pub fn completion(data: &[u8]) {
    let mut numbers = Numbers(data);
    let (result, flags) = (numbers.word().cast_signed(), numbers.word());
    let completion = decode(result, flags);
    assert_eq!(completion.more(), flags & 2 != 0);
    assert_eq!(completion.buffer(), (flags & 1 != 0).then_some((flags >> 16) as u16));
    match completion {
        Completion::Data { len, .. } | Completion::Nowhere { len, .. } => {
            assert_eq!(i64::from(len), i64::from(result));
        }
        Completion::Failed { errno, .. } => {
            assert!(result < 0 && errno > 0);
            assert!(errno == i32::MAX || -errno == result);
        }
    }
    let bits = u64::from(numbers.word()) << 32 | u64::from(numbers.word());
    if let Some(data) = UserData::from_bits(bits) {
        assert_eq!(data.bits(), bits);
    }
    let (index, generation) = (numbers.word(), numbers.word());
    for data in [UserData::receive(index, generation), UserData::send(index, generation)] {
        assert_eq!(UserData::from_bits(data.bits()), Some(data));
    }
}

/// Any sequence of operations on buffers against a model: `None` is the kernel's, a number counts sends.
pub fn ownership(data: &[u8]) {
    let mut numbers = Numbers(data);
    let buffers = numbers.byte() % 5;
    let mut owners = Ownership::new(buffers.into());
    let mut model = vec![Some(0_u32); buffers.into()];
    let mut refused = 0;
    while !numbers.0.is_empty() {
        let (operation, id) = (numbers.byte(), u16::from(numbers.byte() % 6));
        let sends = NonZeroU32::new(u32::from(operation >> 2)).unwrap_or(NonZeroU32::MAX);
        let place = model.get_mut(usize::from(id));
        let (allowed, done) = match (operation & 3, place) {
            (0, Some(place @ None)) => (place.replace(0).is_none(), owners.take(id).is_ok()),
            (1, Some(place @ Some(0))) => {
                (place.replace(sends.get()).is_some(), owners.keep(id, sends).is_ok())
            }
            (2, Some(Some(left @ 1..))) => {
                *left -= 1;
                (true, owners.release(id) == Ok(*left))
            }
            (3, Some(place @ Some(0))) => (place.take().is_some(), owners.give_back(id).is_ok()),
            (0, _) => (false, owners.take(id).is_ok()),
            (1, _) => (false, owners.keep(id, sends).is_ok()),
            (2, _) => (false, owners.release(id).is_ok()),
            (_, _) => (false, owners.give_back(id).is_ok()),
        };
        assert_eq!(done, allowed, "operation {operation} on buffer {id} of {model:?}");
        refused += u64::from(!allowed);
        assert_eq!(owners.refused(), refused);
        assert_eq!(owners.in_kernel(), model.iter().filter(|sends| sends.is_none()).count());
        for id in 0..7 {
            let state = match model.get(usize::from(id)) {
                None => None,
                Some(None) => Some(State::Kernel),
                Some(Some(sends)) => Some(NonZeroU32::new(*sends).map_or(State::Ours, State::Kept)),
            };
            assert_eq!(
                (owners.state(id), owners.is_ours(id)),
                (state, state.is_some_and(|s| s != State::Kernel))
            );
        }
    }
}
