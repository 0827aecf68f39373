use proptest::prelude::*;

use super::*;
use crate::error::FileErrorKind;
use crate::limits::{ENTRIES_PER_MESSAGE_MAX, MESSAGE_DATA_BYTES_MAX, PATH_BYTES_MAX};

fn name(s: &[u8]) -> Name {
    Name::new(s).unwrap()
}

fn attributes() -> impl Strategy<Value = Attributes> {
    (0u16..=0o777, any::<i64>(), 0u32..1_000_000_000).prop_map(|(mode, seconds, nanoseconds)| Attributes {
        mode,
        modified: Timestamp { seconds, nanoseconds },
    })
}

fn file_error() -> impl Strategy<Value = FileError> {
    prop_oneof![
        Just(FileErrorKind::NotFound),
        Just(FileErrorKind::NoSpace),
        Just(FileErrorKind::Io),
        Just(FileErrorKind::Unknown)
    ]
    .prop_flat_map(|kind| any::<i32>().prop_map(move |errno| FileError { kind, errno }))
}

fn any_name() -> impl Strategy<Value = Name> {
    proptest::collection::vec(any::<u8>(), 1..40).prop_filter_map("a name", |bytes| Name::new(&bytes).ok())
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<u32>().prop_map(Place::Item),
        (any::<u64>(), any_name()).prop_map(|(directory, name)| Place::In { directory, name })
    ]
}

fn size() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn entry() -> impl Strategy<Value = Entry> {
    let target = proptest::collection::vec(1u8..=255, 1..60);
    prop_oneof![
        (any::<u64>(), place(), size(), attributes()).prop_map(|(id, place, size, attributes)| Entry::File {
            id,
            place,
            size,
            attributes
        }),
        (any::<u64>(), place(), attributes()).prop_map(|(id, place, attributes)| Entry::Directory {
            id,
            place,
            attributes
        }),
        (any::<u64>(), place(), target, attributes()).prop_map(|(id, place, target, a)| Entry::Link {
            id,
            place,
            target,
            modified: a.modified
        }),
        any::<u64>().prop_map(|id| Entry::End { id }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        any::<u64>().prop_map(|id| Answer::Want { id }),
        (any::<u64>(), size(), any::<Hash>()).prop_map(|(id, offset, hash)| Answer::Resume {
            id,
            offset,
            hash
        }),
        (any::<u64>(), any::<Hash>()).prop_map(|(id, hash)| Answer::Compare { id, hash }),
        (any::<u64>(), any::<bool>()).prop_map(|(id, unchanged)| Answer::Done { id, unchanged }),
        (any::<u64>(), file_error()).prop_map(|(id, error)| Answer::Failed { id, error }),
    ]
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn request() -> impl Strategy<Value = Request> {
    let items = proptest::collection::vec((bytes(30), any::<bool>()), 1..5);
    (any::<[bool; 5]>(), bytes(40), items).prop_map(|(f, destination, items)| Request {
        direction: if f[0] { Direction::Upload } else { Direction::Download },
        flags: Flags { checksum: f[1], no_sync: f[2], skip_links: f[3], into_directory: f[4] },
        destination,
        items: items.into_iter().map(|(path, contents)| Item { path, contents }).collect(),
    })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(min, max)| Refusal::Version { min, max }),
        Just(Refusal::ReadOnly),
        Just(Refusal::NeedsDirectory),
        Just(Refusal::Stopped),
        Just(Refusal::TakenOver),
        (bytes(30), file_error()).prop_map(|(path, error)| Refusal::Path { path, error }),
        "[a-zäöü ]{0,30}".prop_map(Refusal::Protocol),
        (100u16..).prop_map(Refusal::Unknown),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let copy = any::<u32>();
    prop_oneof![
        (any::<u16>(), any::<u16>()).prop_map(|(min, max)| Message::Hello { min, max }),
        any::<u16>().prop_map(|version| Message::Welcome { version }),
        (copy, refusal()).prop_map(|(copy, refusal)| Message::Refused { copy, refusal }),
        (copy, request()).prop_map(|(copy, request)| Message::Start { copy, request }),
        copy.prop_map(|copy| Message::Started { copy }),
        (copy, proptest::collection::vec(entry(), 0..6))
            .prop_map(|(copy, entries)| Message::Entries { copy, entries }),
        (copy, any::<u64>(), any::<u64>(), any::<bool>())
            .prop_map(|(copy, files, bytes, complete)| Message::Totals { copy, files, bytes, complete }),
        (copy, proptest::collection::vec(answer(), 0..6))
            .prop_map(|(copy, answers)| Message::Answers { copy, answers }),
        (
            copy,
            any::<u64>(),
            0u64..1 << 60,
            any::<Option<Hash>>(),
            proptest::collection::vec(any::<u8>(), 1..50)
        )
            .prop_map(|(copy, id, offset, last, data)| Message::Data {
                copy,
                id,
                offset,
                last,
                data: data.into()
            }),
        (copy, proptest::collection::vec((any::<u64>(), bytes(20), any::<Hash>()), 0..6)).prop_map(
            |(copy, files)| {
                let data: Vec<u8> = files.iter().flat_map(|(_, d, _)| d.clone()).collect();
                let files = files
                    .into_iter()
                    .map(|(id, d, hash)| BundleFile { id, len: u32::try_from(d.len()).unwrap(), hash })
                    .collect();
                Message::Bundle { copy, files, data: data.into() }
            }
        ),
        (copy, any::<u64>(), size(), attributes())
            .prop_map(|(copy, id, size, attributes)| Message::Changed { copy, id, size, attributes }),
        (copy, any::<u64>()).prop_map(|(copy, id)| Message::Unchanged { copy, id }),
        (copy, any::<u64>(), file_error()).prop_map(|(copy, id, error)| Message::GiveUp { copy, id, error }),
        (copy, bytes(40), file_error()).prop_map(|(copy, path, error)| Message::Report { copy, path, error }),
        copy.prop_map(|copy| Message::Finish { copy }),
        copy.prop_map(|copy| Message::Finished { copy }),
    ]
}

proptest! {
    #[test]
    fn every_message_comes_back_as_it_was(message in message()) {
        let packet = message.clone().encode();
        prop_assert_eq!(Message::decode(packet), Ok(message));
    }

    #[test]
    fn a_front_cut_at_any_length_is_an_error(message in message()) {
        let packet = message.encode();
        for len in 0..packet.front.len() {
            let cut = Packet { front: packet.front.slice(..len), ..packet.clone() };
            prop_assert!(Message::decode(cut).is_err(), "cut at {len} of {}", packet.front.len());
        }
    }

    #[test]
    fn a_byte_too_many_is_an_error(message in message(), extra in any::<u8>()) {
        let packet = message.encode();
        let mut front = packet.front.to_vec();
        front.push(extra);
        let longer = Packet { front: front.into(), ..packet };
        prop_assert!(Message::decode(longer).is_err());
    }

    #[test]
    fn any_bytes_give_a_message_or_an_error(kind in 0x4f00u16..0x4f12, front in bytes(300), data in bytes(64)) {
        // A message that is read can be written again and says the same, though not by the same bytes (an unknown
        // error number).
        if let Ok(message) = Message::decode(Packet { kind, front: front.into(), data: data.into() }) {
            prop_assert_eq!(Message::decode(message.clone().encode()), Ok(message));
        }
    }

    #[test]
    fn a_flipped_bit_gives_a_message_or_an_error(message in message(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let packet = message.encode();
        if !packet.front.is_empty() {
            let mut front = packet.front.to_vec();
            let at = at.index(front.len());
            front[at] ^= 1 << bit;
            if let Ok(message) = Message::decode(Packet { front: front.into(), ..packet }) {
                prop_assert_eq!(Message::decode(message.clone().encode()), Ok(message));
            }
        }
    }
}

fn packet(kind: u16, front: &[u8]) -> Packet {
    Packet { kind, front: front.to_vec().into(), data: Bytes::new() }
}

#[test]
fn the_bytes_of_the_first_exchange_never_change() {
    let hello = Message::Hello { min: 1, max: 2 }.encode();
    assert_eq!((hello.kind, &hello.front[..]), (0x4f01, &b"outlast\x01\x01\x00\x02\x00"[..]));
    let refused = Message::Refused { copy: 0, refusal: Refusal::Version { min: 1, max: 1 } }.encode();
    assert_eq!((refused.kind, &refused.front[..]), (0x4f03, &[0, 0, 0, 0, 1, 0, 1, 0, 1, 0][..]));
}

#[test]
fn the_bytes_of_an_entry_are_those_of_the_description() {
    let entry = Entry::File {
        id: 3,
        place: Place::In { directory: 1, name: name(b"ab") },
        size: 5,
        attributes: Attributes { mode: 0o644, modified: Timestamp { seconds: -1, nanoseconds: 7 } },
    };
    let packet = Message::Entries { copy: 9, entries: vec![entry] }.encode();
    let mut expected = vec![9, 0, 0, 0, 1, 0, 0, 0]; // copy, count
    expected.extend([1, 3, 0, 0, 0, 0, 0, 0, 0]); // a file, number
    expected.extend([1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'a', b'b']); // in directory 1, name
    expected.extend([5, 0, 0, 0, 0, 0, 0, 0, 0xa4, 1]); // size, mode
    expected.extend([0xff; 8]);
    expected.extend([7, 0, 0, 0]);
    assert_eq!(&packet.front[..], &expected[..]);
}

#[test]
fn a_huge_count_is_refused_before_anything_is_allocated() {
    let mut front = vec![1, 0, 0, 0];
    front.extend(u32::MAX.to_le_bytes());
    for kind in [kind::ENTRIES, kind::ANSWERS, kind::BUNDLE] {
        let error = Message::decode(packet(kind, &front)).unwrap_err();
        assert!(matches!(error, WireError::TooLong { len: 0xffff_ffff, .. }), "{error}");
    }
    // Within the limit, but the front cannot hold so many.
    let mut front = vec![1, 0, 0, 0];
    front.extend(u32::try_from(ENTRIES_PER_MESSAGE_MAX).unwrap().to_le_bytes());
    let error = Message::decode(packet(kind::ENTRIES, &front)).unwrap_err();
    assert_eq!(error, WireError::Truncated { kind: "Entries", what: "number of entries" });
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for bad in [&b".."[..], b".", b"", b"a/b", b"/etc", b"a\0"] {
        let mut front = vec![1, 0, 0, 0, 1, 0, 0, 0, 2];
        front.extend(0u64.to_le_bytes());
        front.push(1);
        front.extend(0u64.to_le_bytes());
        front.extend(u32::try_from(bad.len()).unwrap().to_le_bytes());
        front.extend(bad);
        front.extend([0xed, 1]);
        front.extend([0; 12]);
        let error = Message::decode(packet(kind::ENTRIES, &front)).unwrap_err();
        assert_eq!(error, WireError::BadName { kind: "Entries" }, "{bad:?}");
    }
}

#[test]
fn more_data_than_allowed_is_refused() {
    let data = Bytes::from(vec![0; MESSAGE_DATA_BYTES_MAX + 1]);
    let packet = Message::Data { copy: 1, id: 0, offset: 0, last: None, data }.encode();
    assert!(matches!(Message::decode(packet), Err(WireError::TooLong { what: "data", .. })));
    let stray = Packet { data: Bytes::from_static(b"x"), ..Message::Finish { copy: 1 }.encode() };
    assert_eq!(Message::decode(stray), Err(WireError::DataLength { kind: "Finish", got: 1, expected: 0 }));
}

#[test]
fn a_path_beyond_the_limit_is_refused() {
    let long = vec![b'a'; PATH_BYTES_MAX + 1];
    let packet = Message::Report { copy: 1, path: long, error: FileErrorKind::NotFound.into() }.encode();
    assert!(matches!(Message::decode(packet), Err(WireError::TooLong { what: "path", .. })));
}

#[test]
fn control_characters_of_a_refusal_do_not_reach_the_terminal() {
    let refusal = Refusal::Protocol("a\x1b[2Jb".to_owned());
    let decoded = Message::decode(Message::Refused { copy: 0, refusal }.encode()).unwrap();
    assert_eq!(decoded, Message::Refused { copy: 0, refusal: Refusal::Protocol("a?[2Jb".to_owned()) });
}
