//! DHCPv4 (RFC 2131, RFC 2132), as far as a server has to do with it that knows its clients: it reads what they send, and
//! writes what they are answered.

use super::WireError;
use crate::mac::MacAddr;
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// The server's UDP port.
pub const SERVER_PORT: u16 = 67;
/// The client's UDP port.
pub const CLIENT_PORT: u16 = 68;
/// Bytes of the longest message that is read or written, the UDP header not counted.
pub const LONGEST: usize = 1_024;

/// Bytes in front of the options: the fields of BOOTP (RFC 951), and the cookie (RFC 1497).
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// BOOTP's messages have at least so many bytes (RFC 951), and there are relays that count them.
const LEAST: usize = 300;
/// The message that every client takes: a datagram of 576 bytes without its IPv4 and UDP headers (RFC 2131, section 2).
const USUAL: usize = 576 - 20 - 8;
/// Where `file` begins, and its room with the zero behind it.
const FILE: usize = 108;
const FILE_ROOM: usize = 128;

/// Kinds of options (RFC 2132, RFC 3442).
pub mod option {
    /// No option: fills up.
    pub(super) const PAD: u8 = 0;
    /// The subnet's mask.
    pub const MASK: u8 = 1;
    /// Routers.
    pub const ROUTER: u8 = 3;
    /// Name servers.
    pub const DNS: u8 = 6;
    /// The client's name.
    pub const HOST_NAME: u8 = 12;
    /// The domain of names without one.
    pub const DOMAIN: u8 = 15;
    /// The interface's MTU.
    pub const MTU: u8 = 26;
    /// The subnet's broadcast address.
    pub const BROADCAST: u8 = 28;
    pub(super) const REQUESTED_ADDRESS: u8 = 50;
    /// How long the address is the client's, in seconds.
    pub const LEASE: u8 = 51;
    pub(super) const KIND: u8 = 53;
    /// Which server answers.
    pub const SERVER: u8 = 54;
    pub(super) const WANTED: u8 = 55;
    pub(super) const MOST: u8 = 57;
    /// After how many seconds the client renews.
    pub const RENEW: u8 = 58;
    /// After how many seconds it asks any server.
    pub const REBIND: u8 = 59;
    /// Who the client says it is.
    pub const CLIENT_ID: u8 = 61;
    /// Routes by prefix: where a client gets them it takes no notice of [`ROUTER`].
    pub const ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client looks for servers.
    Discover,
    /// What a server would give.
    Offer,
    /// A client takes an offer, or goes on with what it had.
    Request,
    /// Somebody else uses the address, says the client.
    Decline,
    /// The address is the client's.
    Ack,
    /// It is not.
    Nak,
    /// The client needs it no more.
    Release,
    /// A client that has its address asks for the rest.
    Inform,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Discover,
        Self::Offer,
        Self::Request,
        Self::Decline,
        Self::Ack,
        Self::Nak,
        Self::Release,
        Self::Inform,
    ];

    const fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// What a client sends, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it says.
    pub kind: Kind,
    /// The transaction, and `flags`, as they lie in the message.
    transaction: [u8; 4],
    flags: [u8; 2],
    /// The address that the client has; unspecified while it has none.
    pub own: Ipv4Addr,
    /// The client's hardware address.
    pub mac: MacAddr,
    /// The address that it would like.
    pub requested: Option<Ipv4Addr>,
    /// The server that it has chosen.
    pub server: Option<Ipv4Addr>,
    /// The options that it wants to be told; `None`: it does not say.
    pub wanted: Option<&'a [u8]>,
    /// Who it says it is.
    pub id: Option<&'a [u8]>,
    /// The longest message that it takes.
    most: usize,
}

impl<'a> Message<'a> {
    /// The message of a client in a datagram's payload.
    ///
    /// # Errors
    /// [`WireError`] of anything else: a server's message, a relayed one, or one of another hardware than Ethernet.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, WireError> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(WireError::Truncated)?;
        let options = bytes.get(FIXED..).unwrap_or(&[]);
        // op BOOTREQUEST, htype Ethernet, hlen 6.
        let client = fixed.first_chunk() == Some(&[1, 1, 6]) && fixed.last_chunk() == Some(&COOKIE);
        if !client || address(fixed, 24) != Ipv4Addr::UNSPECIFIED {
            return Err(WireError::Malformed);
        }
        let (mut kind, mut requested, mut server, mut wanted, mut id) = (None, None, None, None, None);
        let mut most = USUAL;
        for (code, value) in Options(options) {
            let as_address =
                || <[u8; 4]>::try_from(value).map(Ipv4Addr::from).map_err(|_| WireError::Malformed);
            match code {
                option::KIND => {
                    let [number] = *value else { return Err(WireError::Malformed) };
                    kind = Kind::ALL.into_iter().find(|kind| kind.number() == number);
                }
                option::REQUESTED_ADDRESS => requested = Some(as_address()?),
                option::SERVER => server = Some(as_address()?),
                option::WANTED => wanted = Some(value),
                option::CLIENT_ID => id = Some(value),
                option::MOST => {
                    let length = <[u8; 2]>::try_from(value).map_err(|_| WireError::Malformed)?;
                    most =
                        usize::from(u16::from_be_bytes(length)).saturating_sub(20 + 8).clamp(USUAL, LONGEST);
                }
                _ => {}
            }
        }
        Ok(Self {
            kind: kind.ok_or(WireError::Malformed)?,
            transaction: part(fixed, 4),
            flags: part(fixed, 10),
            own: address(fixed, 12),
            mac: MacAddr(part(fixed, 28)),
            requested,
            server,
            wanted,
            id,
            most,
        })
    }

    /// Whether it wants to be told this option; who does not say wants all.
    #[must_use]
    pub fn wants(&self, code: u8) -> bool {
        self.wanted.is_none_or(|wanted| wanted.contains(&code))
    }

    /// Whether the client cannot be reached by its address yet.
    #[must_use]
    pub const fn wants_broadcast(&self) -> bool {
        self.flags[0] & 0x80 != 0
    }
}

fn part<const N: usize>(fixed: &[u8; FIXED], from: usize) -> [u8; N] {
    fixed.get(from..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

fn address(fixed: &[u8; FIXED], from: usize) -> Ipv4Addr {
    Ipv4Addr::from(part::<4>(fixed, from))
}

/// The options of a message; it ends with what is cut off.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (code, rest) = self.0.split_first()?;
            if *code == option::END {
                return None;
            }
            self.0 = rest;
            if *code == option::PAD {
                continue;
            }
            let (length, rest) = rest.split_first()?;
            let (value, rest) = rest.split_at_checked(usize::from(*length))?;
            self.0 = rest;
            return Some((*code, value));
        }
    }
}

/// A message that is being written for a client.
#[derive(Debug)]
pub struct Reply {
    bytes: ArrayVec<u8, LONGEST>,
    most: usize,
}

impl Reply {
    /// The answer to `asked` which says `kind`: `yours` is the client's address, or unspecified.
    #[must_use]
    pub fn new(asked: &Message<'_>, kind: Kind, yours: Ipv4Addr) -> Self {
        // The client's own address is in what confirms it, and in nothing else (RFC 2131, table 3).
        let own = if kind == Kind::Ack { asked.own } else { Ipv4Addr::UNSPECIFIED };
        let mut reply = Self { bytes: ArrayVec::new(), most: asked.most };
        let fields: [&[u8]; 11] = [
            // op BOOTREPLY, htype Ethernet, hlen 6, no hops.
            &[2, 1, 6, 0],
            &asked.transaction,
            &[0; 2],
            &asked.flags,
            &own.octets(),
            &yours.octets(),
            // The next server and the relay: nobody.
            &[0; 8],
            &asked.mac.0,
            // The hardware address has room for ten more, `sname` for 64, `file` for 128.
            &[0; 10 + 64 + FILE_ROOM],
            &COOKIE,
            &[option::KIND, 1, kind.number()],
        ];
        for field in fields {
            let _ = reply.bytes.try_extend_from_slice(field);
        }
        reply
    }

    /// Where the client loads what it starts from (RFC 2131's `siaddr` and `file`; names beyond 127 bytes are cut).
    pub fn boot(&mut self, server: Ipv4Addr, file: &str) {
        let name = file.bytes().take(FILE_ROOM - 1);
        let place = self.bytes.iter_mut().skip(20).zip(server.octets());
        place.for_each(|(to, from)| *to = from);
        self.bytes.iter_mut().skip(FILE).zip(name).for_each(|(to, from)| *to = from);
    }

    /// Adds an option of these parts, if it has any bytes and there is room: what comes first is what matters most.
    pub fn add(&mut self, code: u8, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        // Code and length come with it, and the end after it.
        let room = self.bytes.len() + 2 + length < self.most.min(LONGEST);
        let Some(size) = u8::try_from(length).ok().filter(|size| *size > 0 && room) else { return };
        let _ = self.bytes.try_extend_from_slice(&[code, size]);
        for part in parts {
            let _ = self.bytes.try_extend_from_slice(part);
        }
    }

    /// The message.
    #[must_use]
    pub fn finish(mut self) -> ArrayVec<u8, LONGEST> {
        let _ = self.bytes.try_push(option::END);
        while self.bytes.len() < LEAST {
            self.bytes.push(option::PAD);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client sends, by hand: the fields of BOOTP and these options.
    fn message(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 3, 0x80, 0];
        bytes.extend([10, 0, 0, 9].iter().chain(&[0; 12]));
        bytes.extend([2, 0, 0, 0, 0, 1].iter().chain(&[0; 10]));
        bytes.extend([0; 64 + 128]);
        bytes.extend(COOKIE);
        bytes.extend(options);
        bytes
    }

    const REQUEST: [u8; 27] =
        [0, 53, 1, 3, 50, 4, 10, 0, 0, 5, 54, 4, 10, 0, 0, 1, 55, 2, 1, 121, 57, 2, 4, 0, 255, 53, 1];

    #[test]
    fn what_a_client_says_is_taken_apart() {
        let bytes = message(&REQUEST);
        let read = Message::new_checked(&bytes).unwrap();
        assert_eq!(
            (read.kind, read.own, read.mac.0),
            (Kind::Request, [10, 0, 0, 9].into(), [2, 0, 0, 0, 0, 1])
        );
        assert_eq!((read.requested, read.server), (Some([10, 0, 0, 5].into()), Some([10, 0, 0, 1].into())));
        assert!(read.wants_broadcast() && read.wants(121) && !read.wants(3));
        assert_eq!(read.most, 1_024 - 28);
    }

    #[test]
    fn what_is_no_clients_message_is_refused() {
        let good = message(&REQUEST);
        for (place, value) in [(0, 2), (1, 6), (2, 16), (24, 10), (236, 0), (241, 54)] {
            let mut bad = good.clone();
            bad[place] = value;
            assert_eq!(Message::new_checked(&bad), Err(WireError::Malformed), "{place}");
        }
        assert_eq!(Message::new_checked(&good[..239]), Err(WireError::Truncated));
        for options in [&[53, 1, 9][..], &[53, 2, 1, 1], &[53, 1], &[53], &[], &[53, 1, 1, 50, 3, 1, 2, 3]] {
            assert_eq!(Message::new_checked(&message(options)), Err(WireError::Malformed), "{options:?}");
        }
    }

    #[test]
    fn a_reply_keeps_to_what_the_client_takes_and_drops_what_matters_least() {
        let bytes = message(&[53, 1, 1, 255]);
        let asked = Message::new_checked(&bytes).unwrap();
        let mut reply = Reply::new(&asked, Kind::Offer, [10, 0, 0, 5].into());
        reply.boot([10, 0, 0, 2].into(), "pxe/boot");
        reply.add(option::MASK, &[&[255, 255, 255, 0]]);
        reply.add(option::DNS, &[]);
        reply.add(option::DOMAIN, &[&[b'x'; 200], &[b'y'; 55]]);
        reply.add(option::HOST_NAME, &[&[b'z'; 60]]);
        reply.add(option::MTU, &[&1_480u16.to_be_bytes()]);
        let written = reply.finish();
        assert_eq!(written.get(..4), Some(&[2, 1, 6, 0][..]));
        assert_eq!(written.get(4..12), Some(&[0xde, 0xad, 0xbe, 0xef, 0, 0, 0x80, 0][..]));
        assert_eq!(written.get(12..28), Some(&[0, 0, 0, 0, 10, 0, 0, 5, 10, 0, 0, 2, 0, 0, 0, 0][..]));
        assert_eq!(written.get(28..34), Some(&[2, 0, 0, 0, 0, 1][..]));
        assert_eq!(written.get(108..117), Some(&b"pxe/boot\0"[..]));
        let options: Vec<(u8, usize)> =
            Options(written.get(FIXED..).unwrap()).map(|(code, value)| (code, value.len())).collect();
        // The name did not fit any more; what is shorter did.
        assert_eq!(options, [(53, 1), (1, 4), (15, 255), (26, 2)]);
        assert!(written.len() <= USUAL);
        assert_eq!(Reply::new(&asked, Kind::Nak, Ipv4Addr::UNSPECIFIED).finish().len(), LEAST);
    }
}
