//! Headers as balancers send them, cut anywhere, with what follows; and what nobody should send.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

fn ends(client: &str, local: &str) -> Ends {
    Ends {
        client: client.parse().unwrap(),
        local: local.parse().unwrap(),
    }
}

fn text(line: &str) -> Option<Source> {
    v1(line.as_bytes())
}

#[test]
fn text_headers_are_taken_strictly() {
    let v4 = ends("192.0.2.7:4321", "198.51.100.25:25");
    let line = "PROXY TCP4 192.0.2.7 198.51.100.25 4321 25\r\n";
    assert_eq!(text(line), Some(Source::Relayed(v4)));
    assert_eq!(v4.to_v1(), line.as_bytes());
    let v6 = ends("[2001:db8::7]:0", "[2001:db8::19]:65535");
    let line = "PROXY TCP6 2001:db8::7 2001:db8::19 0 65535\r\n";
    assert_eq!(text(line), Some(Source::Relayed(v6)));
    assert_eq!(v6.to_v1(), line.as_bytes());
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ff:: 1 x  y\r\n"] {
        assert_eq!(text(line), Some(Source::Itself));
    }
    for line in [
        "PROXY UNKNOWNS\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "proxy TCP4 192.0.2.7 198.51.100.25 4321 25\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.25 4321 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 4321 25\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 4321 25",
        "PROXY TCP4 192.0.2.7 198.51.100.25 4321 25 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 4321\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.25 4321 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 4321 25 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 04321 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 +4321 25\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.25 4321 65536\r\n",
        "PROXY TCP4 192.0.2.07 198.51.100.25 4321 25\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.25 4321 25\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::19 4321 25\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.25 4321 25\r\n",
        "PROXY TCP4 mx.test 198.51.100.25 4321 25\r\n",
    ] {
        assert_eq!(text(line), None, "{line:?}");
    }
}

#[test]
fn binary_headers_hold_the_addresses_they_announce() {
    let addresses = [192, 0, 2, 7, 198, 51, 100, 25, 0x10, 0xe1, 0, 25];
    let v4 = Source::Relayed(ends("192.0.2.7:4321", "198.51.100.25:25"));
    assert_eq!(v2(0x21, 0x11, &addresses), Some(v4));
    let with_more = [&addresses[..], &[4, 0, 1, 0]].concat();
    assert_eq!(v2(0x21, 0x11, &with_more), Some(v4));
    assert_eq!(v2(0x21, 0x11, &addresses[..11]), None);
    assert_eq!(v2(0x21, 0x21, &addresses), None);
    // A health check, and a client the balancer cannot name.
    for (command, family) in [(0x20, 0x00), (0x20, 0x11), (0x21, 0x00)] {
        assert_eq!(v2(command, family, &[]), Some(Source::Itself));
        assert_eq!(v2(command, family, &addresses), Some(Source::Itself));
    }
    // UDP, a Unix socket, and what there is not.
    for (command, family) in [
        (0x21, 0x12),
        (0x21, 0x31),
        (0x21, 0x41),
        (0x22, 0x11),
        (0x11, 0x11),
    ] {
        assert_eq!(
            v2(command, family, &[0; 216]),
            None,
            "{command:#x} {family:#x}"
        );
    }
}

#[test]
fn both_families_in_one_header_are_ipv6() {
    let mixed = ends("[2001:db8::7]:4321", "198.51.100.25:25");
    assert_eq!(
        String::from_utf8(mixed.to_v1()).unwrap(),
        "PROXY TCP6 2001:db8::7 ::ffff:198.51.100.25 4321 25\r\n"
    );
    assert_eq!(v1(&mixed.to_v1()), Some(Source::Relayed(mixed)));
}

/// Sends the pieces to a socket of its own, a moment apart; what is read, and what is left to read.
fn received(pieces: &[&[u8]]) -> (io::Result<Source>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut balancer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        balancer.set_nodelay(true).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let send = async {
            for piece in pieces {
                // Refused in the middle: the rest goes nowhere.
                let _ = balancer.write_all(piece).await;
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            let _ = balancer.shutdown().await;
        };
        let read = async {
            let source = receive(&mut stream).await;
            let mut left = Vec::new();
            let _ = stream.read_to_end(&mut left).await;
            (source, left)
        };
        tokio::join!(send, read).1
    })
}

#[test]
fn a_header_is_read_to_its_last_octet_and_no_further() {
    let v4 = ends("192.0.2.7:4321", "198.51.100.25:25");
    let unknown = "PROXY UNKNOWN".to_owned() + &" ".repeat(107 - 15) + "\r\n";
    let mut with_tlvs = v4.to_v2();
    with_tlvs[14..16].copy_from_slice(&512_u16.to_be_bytes());
    with_tlvs.resize(16 + 512, b'\n');
    for (header, source) in [
        (v4.to_v1(), Source::Relayed(v4)),
        (v4.to_v2(), Source::Relayed(v4)),
        (unknown.into_bytes(), Source::Itself),
        (with_tlvs, Source::Relayed(v4)),
    ] {
        let whole = [&header[..], b"EHLO x\r\n"].concat();
        let octets: Vec<&[u8]> = header[..28].chunks(1).chain([&whole[28..]]).collect();
        for pieces in [&[&whole[..]][..], &[&header, b"EHLO x\r\n"], &octets] {
            let (found, left) = received(pieces);
            assert_eq!(found.unwrap(), source);
            assert_eq!(left, b"EHLO x\r\n");
        }
        for cut in [0, 1, 11, 12, 15, header.len() - 1] {
            assert!(received(&[&header[..cut]]).0.is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn what_is_no_header_or_too_long_is_refused() {
    let mut endless = ends("192.0.2.7:4321", "198.51.100.25:25").to_v2();
    endless[14..16].copy_from_slice(&513_u16.to_be_bytes());
    endless.resize(16 + 513, 0);
    let long = "PROXY UNKNOWN".to_owned() + &" ".repeat(108 - 15) + "\r\n";
    for wrong in [
        &endless[..],
        long.as_bytes(),
        &[b'P'; 600],
        b"EHLO client.test\r\n",
        b"\r\n\r\n\0\r\nQUIT\r\n",
    ] {
        let error = received(&[wrong]).0.unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::InvalidData,
            "{}",
            wrong.escape_ascii()
        );
    }
}

/// The same as another reader has it.
fn oracle(header: &[u8]) -> Option<Source> {
    use ppp::v2::Addresses as V2;
    use ppp::{HeaderResult, v1::Addresses as V1};
    let relayed = |client: (IpAddr, u16), local: (IpAddr, u16)| {
        Some(Source::Relayed(Ends {
            client: address(client.0, client.1),
            local: address(local.0, local.1),
        }))
    };
    macro_rules! both {
        ($of:expr) => {
            relayed(
                ($of.source_address.into(), $of.source_port),
                ($of.destination_address.into(), $of.destination_port),
            )
        };
    }
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(found)) => match found.addresses {
            V1::Unknown => Some(Source::Itself),
            V1::Tcp4(of) => both!(of),
            V1::Tcp6(of) => both!(of),
        },
        HeaderResult::V2(Ok(found)) if found.command == ppp::v2::Command::Local => {
            Some(Source::Itself)
        }
        HeaderResult::V2(Ok(found)) => match found.addresses {
            V2::Unspecified => Some(Source::Itself),
            V2::IPv4(of) => both!(of),
            V2::IPv6(of) => both!(of),
            V2::Unix(_) => None,
        },
        _ => None,
    }
}

fn parsed(header: &[u8]) -> Option<Source> {
    match header.strip_prefix(&SIGNATURE) {
        Some([command, family, _, _, rest @ ..]) => v2(*command, *family, rest),
        Some(_) => None,
        None => v1(header),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_by_us_and_by_others(client: SocketAddr, local: SocketAddr) {
        let written = Ends { client, local };
        let canonical = |of: SocketAddr| address(of.ip(), of.port());
        let read = Some(Source::Relayed(Ends { client: canonical(client), local: canonical(local) }));
        prop_assert!(written.to_v1().len() <= V1_OCTETS_MAX);
        for header in [written.to_v1(), written.to_v2()] {
            prop_assert_eq!(parsed(&header), read);
            prop_assert_eq!(oracle(&header), read);
        }
    }

    #[test]
    fn nothing_is_taken_that_others_refuse(
        client: SocketAddr,
        local: SocketAddr,
        binary: bool,
        at in any::<prop::sample::Index>(),
        octet: u8,
    ) {
        let written = Ends { client, local };
        let mut header = if binary { written.to_v2() } else { written.to_v1() };
        let at = at.index(header.len());
        header[at] = octet;
        // The length is what says how much is read; the two functions get what was.
        if !(binary && (14..16).contains(&at))
            && let Some(source) = parsed(&header)
        {
            prop_assert_eq!(oracle(&header), Some(source), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn rubbish_is_survived(octets: Vec<u8>) {
        prop_assert_eq!(v1(&octets), None);
        let _ = v2(0x21, octets.len().to_le_bytes()[0], &octets);
    }
}
