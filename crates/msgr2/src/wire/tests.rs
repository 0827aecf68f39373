use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frame::Tag;

fn addr(text: &str) -> EntityAddr {
    text.parse().unwrap()
}

fn addr_bytes(addr: EntityAddr) -> Vec<u8> {
    let mut out = Vec::new();
    addr.encode(&mut out);
    out
}

fn decode_addr(bytes: &[u8]) -> Result<EntityAddr, DecodeError> {
    let mut reader = Reader::new(bytes);
    let addr = EntityAddr::decode(&mut reader)?;
    assert!(reader.is_empty());
    Ok(addr)
}

#[test]
fn an_ipv4_address_has_35_bytes() {
    let expected = [
        &[1, 1, 1, 28, 0, 0, 0][..], // marker, version, compatibility, length
        &[2, 0, 0, 0],               // msgr2
        &[1, 0, 0, 0],               // nonce
        &[16, 0, 0, 0],              // length of the socket address
        &[2, 0, 0x1a, 0x90],         // family little-endian, port 6800 big-endian
        &[127, 0, 0, 1],
        &[0; 8],
    ]
    .concat();
    assert_eq!(expected.len(), 35);
    assert_eq!(addr_bytes(addr("v2:127.0.0.1:6800/1")), expected);
    assert_eq!(decode_addr(&expected), Ok(addr("v2:127.0.0.1:6800/1")));
}

#[test]
fn an_ipv6_address_has_47_bytes() {
    let expected = [
        &[1, 1, 1, 40, 0, 0, 0][..],
        &[2, 0, 0, 0],
        &[0, 0, 0, 0],
        &[28, 0, 0, 0],
        &[10, 0, 0x1a, 0x90],
        &[0; 4],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0; 4],
    ]
    .concat();
    assert_eq!(expected.len(), 47);
    assert_eq!(addr_bytes(addr("v2:[::1]:6800/0")), expected);
    assert_eq!(decode_addr(&expected), Ok(addr("v2:[::1]:6800/0")));
}

#[test]
fn a_blank_address_has_28_bytes_of_nothing_or_none() {
    let blank = addr_bytes(EntityAddr::BLANK);
    assert_eq!(blank, [&[1, 1, 1, 40, 0, 0, 0][..], &[0; 8], &[28, 0, 0, 0], &[0; 28]].concat());
    let absent = [&[1, 1, 1, 12, 0, 0, 0][..], &[0; 8], &[0; 4]].concat();
    let decoded = decode_addr(&absent).unwrap();
    assert!(decoded.is_blank());
    assert_eq!(decoded, EntityAddr::BLANK);
    assert_eq!(addr_bytes(decoded), absent, "it is written as it came");
    let v2 = EntityAddr { kind: AddrKind::MSGR2, nonce: 0, sockaddr: Sockaddr::ABSENT };
    assert!(!v2.is_blank());
}

#[test]
fn a_legacy_address_has_its_family_in_the_other_order() {
    let mut bytes = vec![0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0x1a, 0x85, 192, 0, 2, 1];
    bytes.resize(8 + 128, 0);
    let decoded = decode_addr(&bytes).unwrap();
    assert_eq!(decoded, addr("v1:192.0.2.1:6789/9"));
    let mut out = Vec::new();
    decoded.encode_legacy(&mut out);
    assert_eq!(out, bytes);
    assert_eq!(addr_bytes(decoded).len(), 35);
    assert_eq!(decode_addr(&[0; 136]).unwrap(), EntityAddr::BLANK);
}

#[test]
fn what_lies_behind_a_legacy_address_makes_no_other_address_of_it() {
    let mut bytes = vec![0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0x1a, 0x85, 192, 0, 2, 1];
    bytes.resize(8 + 128, 0xee);
    bytes[16..24].fill(0);
    assert_eq!(decode_addr(&bytes).unwrap(), addr("v1:192.0.2.1:6789/9"));
}

#[test]
fn a_list_is_read_in_its_three_forms() {
    let one = addr("v2:192.0.2.1:3300/5");
    let two = addr("v1:192.0.2.1:6789/5");
    let mut list = Vec::new();
    AddrVec(vec![one, two]).encode(&mut list);
    assert_eq!(list, [&[2, 2, 0, 0, 0][..], &addr_bytes(one), &addr_bytes(two)].concat());
    assert_eq!(AddrVec::decode(&mut Reader::new(&list)), Ok(AddrVec(vec![one, two])));
    assert_eq!(AddrVec::decode(&mut Reader::new(&addr_bytes(one))), Ok(AddrVec::from(one)));
    let mut legacy = Vec::new();
    two.encode_legacy(&mut legacy);
    assert_eq!(AddrVec::decode(&mut Reader::new(&legacy)), Ok(AddrVec::from(two)));
    let unknown = AddrVec::decode(&mut Reader::new(&[3]));
    assert_eq!(unknown, Err(DecodeError::Marker { what: "a list of addresses", marker: 3 }));
}

#[test]
fn counts_that_cannot_be_are_refused_without_taking_memory() {
    let list = [&[2, 0xff, 0xff, 0xff, 0xff][..], &[0; 40]].concat();
    let error = DecodeError::CountTooLarge { what: "addresses", count: u32::MAX, left: 40 };
    assert_eq!(AddrVec::decode(&mut Reader::new(&list)), Err(error));
    let request = [&[2, 0, 0, 0][..], &[0, 0, 0, 8], &[0; 16]].concat();
    let error = DecodeError::CountTooLarge { what: "preferred modes", count: 1 << 27, left: 16 };
    assert_eq!(Control::decode(Tag::AuthRequest, &request), Err(error));
}

#[test]
fn socket_addresses_of_impossible_lengths_are_refused() {
    for len in [1, 29, u32::MAX] {
        let body = [&[2, 0, 0, 0, 0, 0, 0, 0][..], &len.to_le_bytes(), &[0; 40]].concat();
        let bytes = [&[1, 1, 1][..], &(body.len() as u32).to_le_bytes(), &body].concat();
        assert_eq!(decode_addr(&bytes), Err(DecodeError::SockaddrLength { len }));
    }
}

#[test]
fn a_newer_address_is_read_as_far_as_it_is_known() {
    let mut bytes = addr_bytes(addr("v2:192.0.2.1:3300/5"));
    bytes[1] = 2;
    bytes[3] += 3;
    bytes.extend_from_slice(&[7, 7, 7]);
    assert_eq!(decode_addr(&bytes), Ok(addr("v2:192.0.2.1:3300/5")));
    bytes[2] = 2;
    let error = DecodeError::Incompatible { what: "an address", compat: 2, known: 1 };
    assert_eq!(decode_addr(&bytes), Err(error));
}

#[test]
fn an_unknown_family_is_written_as_it_came() {
    let body = [&[2, 0, 0, 0, 1, 0, 0, 0][..], &[5, 0, 0, 0], &[1, 0, b'a', b'b', b'c']].concat();
    let bytes = [&[1, 1, 1, 17, 0, 0, 0][..], &body].concat();
    let decoded = decode_addr(&bytes).unwrap();
    assert_eq!((decoded.sockaddr.family(), decoded.socket_addr()), (1, None));
    assert_eq!(addr_bytes(decoded), bytes);
}

#[test]
fn the_nonce_is_compared_from_its_low_byte_before_the_address() {
    let lower = addr("v2:192.0.2.9:3300/256"); // 00 01 00 00
    let higher = addr("v2:192.0.2.1:3300/1"); // 01 00 00 00
    assert!(lower < higher);
    assert!(addr("v1:192.0.2.9:1/9") < addr("v2:192.0.2.1:1/1"), "the kind comes first");
    assert!(addr("v2:192.0.2.9:255/1") < addr("v2:192.0.2.1:256/1"), "then the port, in network order");
    assert!(addr("v2:192.0.2.1:1/1") < addr("v2:192.0.2.9:1/1"));
    assert!(addr("v2:255.0.2.1:1/1") < addr("v2:[::]:1/1"), "the family counts before all of these");
    assert_eq!(lower.to_memory()[..10], [2, 0, 0, 0, 0, 1, 0, 0, 2, 0]);
}

#[test]
fn addresses_are_read_as_they_are_written() {
    let texts = [
        "v2:127.0.0.1:3300/123",
        "v1:[2001:db8::1]:6789/0",
        "any:10.0.0.1:0/4294967295",
        "cidr:10.0.0.0:0/24",
        "-",
    ];
    for text in texts {
        assert_eq!(addr(text).to_string(), text);
    }
    assert_eq!(addr("192.0.2.1:3300"), addr("v2:192.0.2.1:3300/0"));
    assert_eq!(addr("v2:-/7").to_string(), "v2:-/7");
    for text in ["", "v3:1.2.3.4:5/6", "v2:1.2.3.4/5", "v2:1.2.3.4:5/x", "v2:", "host:3300/0"] {
        let error = ParseAddrError { text: text.to_owned() };
        assert_eq!(text.parse::<EntityAddr>(), Err(error));
    }
    let both = "[v2:[::1]:3300/0,v1:[::1]:6789/0]";
    assert_eq!(both.parse::<AddrVec>().unwrap().to_string(), both);
    assert_eq!("[::1]:3300".parse::<AddrVec>().unwrap().0, [addr("v2:[::1]:3300/0")]);
    assert_eq!("[]".parse(), Ok(AddrVec::default()));
}

#[test]
fn races_compare_the_first_msgr2_address() {
    let both = "[v1:192.0.2.1:6789/0,v2:192.0.2.1:3300/0,v2:192.0.2.2:3300/0]".parse::<AddrVec>().unwrap();
    assert_eq!(both.msgr2(), addr("v2:192.0.2.1:3300/0"));
    assert_eq!(AddrVec::from(addr("v1:192.0.2.1:6789/0")).msgr2(), EntityAddr::BLANK);
    assert!(AddrVec::default().is_blank());
    assert!(AddrVec(vec![EntityAddr::BLANK, EntityAddr::BLANK]).is_blank());
    assert!(!both.is_blank());
    assert!(both.contains(&addr("v2:192.0.2.2:3300/0")));
    assert!(!both.contains(&addr("v2:192.0.2.2:3300/1")), "the nonce counts");
}

#[test]
fn a_banner_has_26_bytes() {
    let banner = Banner { supported: FEATURE_REVISION_1 | FEATURE_COMPRESSION, required: 0 };
    let bytes = banner.encode();
    assert_eq!(bytes, *b"ceph v2\n\x10\x00\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let (prefix, payload) = bytes.split_first_chunk().unwrap();
    assert_eq!(Banner::payload_len(prefix), Ok(16));
    assert_eq!(Banner::decode_payload(payload), Ok(banner));
    let longer = [payload, &[9; 3]].concat();
    assert_eq!(Banner::decode_payload(&longer), Ok(banner));
    assert_eq!(Banner::decode_payload(&payload[..15]), Err(BannerError::PayloadTooShort { len: 15 }));
}

#[test]
fn other_first_bytes_are_told_apart() {
    assert_eq!(Banner::payload_len(b"ceph v027\0"), Err(BannerError::Msgr1));
    assert_eq!(Banner::payload_len(b"GET / HTTP"), Err(BannerError::NotCeph));
    assert_eq!(Banner::payload_len(b"ceph v2\n\x0f\0"), Err(BannerError::PayloadTooShort { len: 15 }));
    assert_eq!(Banner::payload_len(b"ceph v2\n\0\x01"), Ok(256));
    assert_eq!(Banner::payload_len(b"ceph v2\n\x01\x01"), Err(BannerError::PayloadTooLong { len: 257 }));
}

#[test]
fn a_message_header_has_each_field_in_its_place() {
    let bytes: [u8; 41] = core::array::from_fn(|at| at as u8);
    let header = MessageHeader {
        seq: 0x0706_0504_0302_0100,
        tid: 0x0f0e_0d0c_0b0a_0908,
        kind: 0x1110,
        priority: 0x1312,
        version: 0x1514,
        data_pre_padding_len: 0x1918_1716,
        data_off: 0x1b1a,
        ack_seq: 0x2322_2120_1f1e_1d1c,
        flags: 0x24,
        compat_version: 0x2625,
        reserved: 0x2827,
    };
    assert_eq!(MessageHeader::decode(&bytes), header);
    assert_eq!(header.encode(), bytes);
}

/// One of each, with its bytes written by hand from the specification.
fn controls() -> Vec<(Control, Vec<u8>)> {
    let v4 = addr("v2:127.0.0.1:6800/1");
    let v4_bytes = addr_bytes(v4);
    let addrs = AddrVec(vec![v4]);
    let addrs_bytes = [&[2, 1, 0, 0, 0][..], &v4_bytes].concat();
    let words = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let stamp = Stamp { seconds: 0x0403_0201, nanoseconds: 5 };
    let stamp_bytes = vec![1, 2, 3, 4, 5, 0, 0, 0];
    let payload = Bytes::from_static(b"xyz");
    let modes = vec![ConnectionMode::SECURE, ConnectionMode::CRC];
    vec![
        (Hello { entity_type: 8, peer_address: v4 }.into(), [&[8][..], &v4_bytes].concat()),
        (
            AuthRequest {
                method: AuthMethod::CEPHX,
                preferred_modes: modes.clone(),
                payload: payload.clone(),
            }
            .into(),
            [2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, b'x', b'y', b'z'].to_vec(),
        ),
        (
            AuthBadMethod {
                method: AuthMethod::NONE,
                result: -95,
                allowed_methods: vec![AuthMethod::CEPHX],
                allowed_modes: modes,
            }
            .into(),
            [
                &[1, 0, 0, 0, 0xa1, 0xff, 0xff, 0xff][..],
                &[1, 0, 0, 0, 2, 0, 0, 0],
                &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0],
            ]
            .concat(),
        ),
        (AuthReplyMore { payload: payload.clone() }.into(), b"\x03\0\0\0xyz".to_vec()),
        (AuthRequestMore { payload: payload.clone() }.into(), b"\x03\0\0\0xyz".to_vec()),
        (
            AuthDone { global_id: 4123, mode: ConnectionMode::SECURE, payload }.into(),
            [&words(&[4123])[..], b"\x02\0\0\0\x03\0\0\0xyz"].concat(),
        ),
        (AuthSignature { digest: [7; 32] }.into(), vec![7; 32]),
        (
            CompressionRequest {
                wanted: true,
                preferred_methods: vec![CompressionMethod::ZSTD, CompressionMethod::SNAPPY],
            }
            .into(),
            [1, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0].to_vec(),
        ),
        (CompressionDone { granted: true, method: CompressionMethod::LZ4 }.into(), [1, 4, 0, 0, 0].to_vec()),
        (
            ClientIdent {
                addresses: addrs.clone(),
                target: v4,
                global_id: -1,
                global_seq: 2,
                features_supported: 3,
                features_required: 4,
                flags: IDENT_FLAG_LOSSY,
                cookie: 6,
            }
            .into(),
            [&addrs_bytes[..], &v4_bytes, &words(&[u64::MAX, 2, 3, 4, 1, 6])].concat(),
        ),
        (
            ServerIdent {
                addresses: addrs.clone(),
                global_id: 1,
                global_seq: 2,
                features_supported: 3,
                features_required: 4,
                flags: 5,
                cookie: 6,
            }
            .into(),
            [&addrs_bytes[..], &words(&[1, 2, 3, 4, 5, 6])].concat(),
        ),
        (IdentMissingFeatures { features: 1 << 59 }.into(), words(&[1 << 59])),
        (
            SessionReconnect {
                addresses: addrs,
                client_cookie: 1,
                server_cookie: 2,
                global_seq: 3,
                connect_seq: 4,
                msg_seq: 5,
            }
            .into(),
            [&addrs_bytes[..], &words(&[1, 2, 3, 4, 5])].concat(),
        ),
        (SessionReset { full: true }.into(), vec![1]),
        (SessionRetry { connect_seq: 9 }.into(), words(&[9])),
        (SessionRetryGlobal { global_seq: 9 }.into(), words(&[9])),
        (SessionReconnectOk { msg_seq: u64::MAX }.into(), words(&[u64::MAX])),
        (Wait.into(), vec![]),
        (Keepalive2 { stamp }.into(), stamp_bytes.clone()),
        (Keepalive2Ack { stamp }.into(), stamp_bytes),
        (Ack { seq: 0x0102 }.into(), words(&[0x0102])),
        (Close.into(), vec![]),
    ]
}

#[test]
fn every_control_payload_has_its_bytes() {
    let mut tags: Vec<Tag> = vec![Tag::Message];
    for (control, bytes) in controls() {
        let mut out = Vec::new();
        control.encode(&mut out);
        assert_eq!(out, bytes, "{control:?}");
        assert_eq!(Control::decode(control.tag(), &bytes), Ok(control.clone()));
        let longer = [&bytes[..], &[0xee; 5]].concat();
        assert_eq!(
            Control::decode(control.tag(), &longer),
            Ok(control.clone()),
            "bytes behind it are ignored"
        );
        tags.push(control.tag());
    }
    tags.sort_unstable();
    let mut all = Tag::ALL;
    all.sort_unstable();
    assert_eq!(tags, all, "every tag is tested");
}

#[test]
fn every_control_payload_is_refused_at_every_shorter_length() {
    for (control, bytes) in controls() {
        for len in 0..bytes.len() {
            let result = Control::decode(control.tag(), &bytes[..len]);
            assert!(result.is_err(), "{control:?} at {len}: {result:?}");
        }
    }
}

#[test]
fn a_message_is_no_control_frame() {
    assert_eq!(Control::decode(Tag::Message, &[0; 41]), Err(DecodeError::NotControl));
}

#[test]
fn cookies_are_shown_as_tags_that_do_not_tell_them() {
    let (one, other) = (0x0123_4567_89ab_cdef_u64, 0xfedc_ba98_7654_3210_u64);
    let ident = |cookie| ClientIdent {
        addresses: AddrVec::default(),
        target: EntityAddr::BLANK,
        global_id: 7,
        global_seq: 8,
        features_supported: 0,
        features_required: 0,
        flags: 0,
        cookie,
    };
    let answer = |cookie| ServerIdent {
        addresses: AddrVec::default(),
        global_id: 7,
        global_seq: 8,
        features_supported: 0,
        features_required: 0,
        flags: 0,
        cookie,
    };
    let reconnect = |client_cookie, server_cookie| SessionReconnect {
        addresses: AddrVec::default(),
        client_cookie,
        server_cookie,
        global_seq: 1,
        connect_seq: 2,
        msg_seq: 3,
    };
    let shown = [
        format!("{:?}", Control::from(ident(one))),
        format!("{:?}", Control::from(answer(one))),
        format!("{:?}", Control::from(reconnect(one, other))),
    ];
    for text in &shown {
        for cookie in [one, other] {
            for told in [cookie.to_string(), format!("{cookie:x}"), format!("{:x}", cookie.swap_bytes())] {
                assert!(!text.contains(&told), "{text}");
            }
        }
    }
    // The first bytes of `printf '\xef\xcd\xab\x89\x67\x45\x23\x01' | sha256sum`, and of the other.
    assert!(shown[0].ends_with("cookie: #a85b })"), "{}", shown[0]);
    assert!(shown[2].contains("client_cookie: #a85b, server_cookie: #aeb7, global_seq: 1"), "{}", shown[2]);
    assert!(format!("{:?}", ident(0)).ends_with("cookie: none }"));
}

#[test]
fn tags_are_their_numbers() {
    for code in 0..=255 {
        match Tag::from_wire(code) {
            Some(tag) => assert_eq!(tag.code(), code),
            None => assert!(Tag::ALL.iter().all(|tag| tag.code() != code)),
        }
    }
    assert_eq!(Tag::from_wire(17), Some(Tag::Message));
    assert_eq!(Tag::from_wire(22), Some(Tag::CompressionDone));
    assert_eq!(Tag::from_wire(0), None);
}

fn any_addr() -> impl Strategy<Value = EntityAddr> {
    (any::<SocketAddr>(), any::<u32>(), 0u32..5, 0usize..4).prop_map(|(place, nonce, kind, form)| {
        let sockaddr = [Sockaddr::ABSENT, Sockaddr::BLANK, place.into(), place.into()][form];
        EntityAddr { kind: AddrKind(kind), nonce, sockaddr }
    })
}

proptest! {
    #[test]
    fn addresses_come_back_byte_for_byte(addrs in prop::collection::vec(any_addr(), 0..5)) {
        let vec = AddrVec(addrs);
        let mut bytes = Vec::new();
        vec.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let decoded = AddrVec::decode(&mut reader).unwrap();
        prop_assert!(reader.is_empty());
        prop_assert_eq!(&decoded, &vec);
        let mut again = Vec::new();
        decoded.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn addresses_as_text_come_back(
        places in prop::collection::vec((any::<SocketAddr>(), any::<u32>(), 0usize..4), 0..5),
    ) {
        let prefixes = ["v1:", "v2:", "any:", ""];
        let texts: Vec<_> =
            places.iter().map(|(place, nonce, kind)| format!("{}{place}/{nonce}", prefixes[*kind])).collect();
        for text in &texts {
            let read: EntityAddr = text.parse().unwrap();
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
        let list: AddrVec = texts.iter().map(|text| addr(text)).collect();
        prop_assert_eq!(list.to_string().parse(), Ok(list));
    }

    #[test]
    fn arbitrary_text_is_an_address_or_none(text in "(v1:|v2:|any:|cidr:|-|\\[|\\]|/|,|[0-9a-f.:]{0,12}){0,8}") {
        if let Ok(read) = text.parse::<EntityAddr>() {
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
        if let Ok(read) = text.parse::<AddrVec>() {
            prop_assert_eq!(read.to_string().parse(), Ok(read));
        }
    }

    #[test]
    fn arbitrary_bytes_are_addresses_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), marker in 0u8..3) {
        let bytes = [&[marker][..], &bytes].concat();
        if let Ok(read) = AddrVec::decode(&mut Reader::new(&bytes)) {
            prop_assert!(read.0.len() <= ADDRESSES_MAX);
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(AddrVec::decode(&mut Reader::new(&again)), Ok(read));
        }
    }

    #[test]
    fn banners_come_back_and_later_ones_are_read_as_far_as_they_are_known(
        supported in any::<u64>(), required in any::<u64>(), later in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let banner = Banner { supported, required };
        let encoded = banner.encode();
        let (prefix, payload) = encoded.split_first_chunk().unwrap();
        prop_assert_eq!(Banner::payload_len(prefix), Ok(payload.len()));
        prop_assert_eq!(Banner::decode_payload(payload), Ok(banner));
        prop_assert_eq!(Banner::decode_payload(&[payload, &later].concat()), Ok(banner));
    }

    #[test]
    fn arbitrary_bytes_are_a_banner_or_none(bytes in any::<[u8; BANNER_PREFIX_BYTES]>(), is_ours in any::<bool>()) {
        let mut prefix = bytes;
        if is_ours {
            prefix[..BANNER_PREFIX.len()].copy_from_slice(BANNER_PREFIX);
        }
        if let Ok(len) = Banner::payload_len(&prefix) {
            prop_assert!(is_ours && len <= BANNER_PAYLOAD_BYTES_MAX);
            prop_assert!(Banner::decode_payload(&vec![7; len]).is_ok());
        }
    }

    #[test]
    fn every_header_comes_back_byte_for_byte(bytes in any::<[u8; MESSAGE_HEADER_BYTES]>()) {
        prop_assert_eq!(MessageHeader::decode(&bytes).encode(), bytes);
    }

    #[test]
    fn an_order_of_addresses_is_that_of_their_memory(a in any_addr(), b in any_addr()) {
        prop_assert_eq!(a.cmp(&b), a.to_memory().cmp(&b.to_memory()));
        prop_assert_eq!(a == b, a.to_memory() == b.to_memory());
    }

    #[test]
    fn arbitrary_payloads_never_panic(
        which in 0usize..Tag::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let tag = Tag::ALL[which];
        if let Ok(control) = Control::decode(tag, &bytes) {
            prop_assert_eq!(control.tag(), tag);
            let mut out = Vec::new();
            control.encode(&mut out);
            prop_assert_eq!(Control::decode(tag, &out), Ok(control));
        }
    }
}
