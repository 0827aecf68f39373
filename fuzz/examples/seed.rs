//! `cargo run --example seed`: writes the inputs that fuzzing begins with: what real Ceph said (`crates/msgr2/tests/golden`), cut into frames and
//! streams, and what our own encoders write. The fuzzer finds the rest.

use outlast_cephx::keyring::Entry as KeyringEntry;
use outlast_cephx::{EntityName, EntityType, Key, KeyType, Keyring, Timestamp, none};
use outlast_dlm::wire::{
    Body, CallbackFlags, DistributedFlags, Frame as DlmFrame, Inner, LockFlags, LockId, LockspaceId,
    Message as DlmMessage, MessageKind, Mode, Name as DlmName, NodeId, Options, Queue, Rcom, RcomBody,
    RcomLock, Slot, StatusReply, Version,
};
use outlast_fuzz::layout::{PREAMBLE, Shape};
use outlast_msgr2::compress::Algorithm;
use outlast_msgr2::frame::{Revision, Tag};
use outlast_msgr2::wire::{AddrVec, CompressionDone, Control, EntityAddr};
use outlast_transfer::name::Name;
use outlast_transfer::wire::{
    Answer, Attributes, BundleFile, Direction, Entry, Flags, Item, Message as Copying, Place, Request,
    Timestamp as WireTime,
};
use outlast_transfer::{FileError, FileErrorKind, Refusal};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Streams are cut: what comes later is more of the same.
const STREAM_BYTES_MAX: usize = 6 << 10;
/// Longer frames are left out.
const FRAME_BYTES_MAX: usize = 3 << 10;

struct Corpora {
    root: PathBuf,
    written: BTreeSet<(String, Vec<u8>)>,
}

impl Corpora {
    fn put(&mut self, target: &str, input: impl Into<Vec<u8>>) {
        let input = input.into();
        if !self.written.insert((target.to_owned(), input.clone())) {
            return;
        }
        let folder = self.root.join(target);
        fs::create_dir_all(&folder).expect("the package can be written to");
        let number = self.written.iter().filter(|(other, _)| other == target).count();
        fs::write(folder.join(format!("seed-{number:03}")), input).expect("the package can be written to");
    }
}

fn main() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut corpora = Corpora { root: package.join("corpus"), written: BTreeSet::new() };
    golden(&mut corpora, &package.join("../crates/msgr2/tests/golden"));
    addresses(&mut corpora);
    cephx(&mut corpora);
    frames(&mut corpora);
    conversations(&mut corpora);
    transfer(&mut corpora);
    paths(&mut corpora);
    dlm(&mut corpora);
    println!("{} inputs", corpora.written.len());
}

// ---------------------------------------------------------------------- what Ceph said

fn golden(corpora: &mut Corpora, golden: &Path) {
    let mut seen = BTreeSet::new();
    for stream in streams(golden, 3) {
        let bytes = fs::read(&stream).expect("a capture");
        let connection = stream.parent().expect("a file in a folder");
        let is_server = stream.ends_with("server.bin");
        let target = if is_server { "connection_client" } else { "connection_server" };
        let cut = &bytes[..bytes.len().min(STREAM_BYTES_MAX)];
        // The client of some captures does not offer msgr2.1, so the server does not speak it.
        let client = fs::read(connection.join("client.bin")).expect("a capture");
        let revision = if client[10] & 1 == 0 { Revision::V0 } else { Revision::V1 };
        let old = u8::from(revision == Revision::V0);
        for (options, pieces) in [(0, 0), (0, 1), (4, 0x50), (2, 0)] {
            corpora.put(target, [&[options | old, pieces], cut].concat());
        }
        corpora.put("banner", &bytes[..26]);
        let algorithm = compression(connection);
        let mut left = &bytes[26..];
        while left.len() > PREAMBLE {
            let shape = Shape::read(left);
            let Some(len) =
                usize::try_from(shape.crc_len(Revision::V1)).ok().filter(|len| *len <= left.len())
            else {
                break;
            };
            let frame;
            (frame, left) = left.split_at(len);
            // Behind AUTH_DONE it may be sealed.
            if Tag::from_wire(frame[0]).is_none() || frame[27] != 0 || !(1..=4).contains(&frame[1]) {
                break;
            }
            let compressed = frame[26] & 1 != 0;
            // One of a kind is enough.
            let kind = (
                frame[0],
                shape.count,
                shape.lens.map(|len| len.checked_ilog2()),
                compressed,
                algorithm,
                old,
            );
            if len > FRAME_BYTES_MAX || !seen.insert(kind) {
                continue;
            }
            one_frame(corpora, frame, &shape, compressed.then_some(algorithm).flatten(), old);
        }
    }
}

fn streams(folder: &Path, depth: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.expect("a file").path()) {
        if path.extension().is_some_and(|extension| extension == "bin") {
            found.push(path);
        } else if path.is_dir() && depth > 0 {
            found.extend(streams(&path, depth - 1));
        }
    }
    found.sort();
    found
}

/// What the captured connection compresses with.
fn compression(connection: &Path) -> Option<u8> {
    let bytes = fs::read(connection.join("server.bin")).ok()?;
    let mut left = &bytes[26..];
    while left.len() > PREAMBLE {
        let shape = Shape::read(left);
        let len = usize::try_from(shape.crc_len(Revision::V1)).ok().filter(|len| *len <= left.len())?;
        if left[0] == Tag::CompressionDone.code() {
            let Ok(Control::CompressionDone(CompressionDone { method, .. })) =
                Control::decode(Tag::CompressionDone, &left[PREAMBLE..len])
            else {
                return None;
            };
            let algorithm = Algorithm::from_method(method)?;
            return Algorithm::ALL
                .iter()
                .position(|other| *other == algorithm)
                .and_then(|at| u8::try_from(at).ok());
        }
        left = &left[len..];
    }
    None
}

fn one_frame(corpora: &mut Corpora, frame: &[u8], shape: &Shape, algorithm: Option<u8>, old: u8) {
    let options = algorithm.map_or(0, |at| (at + 1) << 2) | old;
    corpora.put("frames", [&[options, 0x30, 1], frame].concat());
    corpora.put("frames", [&[options | 0x22, 1, 0], frame].concat());
    let first_len = usize::try_from(shape.lens[0]).expect("it is there");
    let first = &frame[PREAMBLE..PREAMBLE + first_len];
    if let Some(at) = algorithm {
        corpora.put("decompress", [&[at], first].concat());
        let front = usize::try_from(shape.lens[1]).expect("it is there");
        if front > 0 {
            corpora.put("decompress", [&[at], &frame[PREAMBLE + first_len + 4..][..front]].concat());
        }
        return;
    }
    if frame[0] == Tag::Message.code() {
        corpora.put("header", first);
    } else {
        corpora.put("control", [&frame[..1], first].concat());
        if frame[0] == Tag::AuthRequest.code()
            && let Ok(Control::AuthRequest(request)) = Control::decode(Tag::AuthRequest, first)
        {
            corpora.put("cephx_none", &request.payload[..]);
        }
    }
    // The same lengths, sealed.
    let rest: Vec<u8> = frame[PREAMBLE + first_len..].iter().copied().skip(4).collect();
    let mut body = first.to_vec();
    body.resize(first_len.next_multiple_of(16), 0);
    body.extend(rest);
    for revision in [0, 1] {
        let len = u16::try_from(body.len()).expect("short frames").to_le_bytes();
        corpora.put("sealed", [&[revision, 0x40], &frame[..28], &len, &body].concat());
    }
}

// ---------------------------------------------------------------------- what people write, and addresses

fn addresses(corpora: &mut Corpora) {
    let texts = [
        "v2:127.0.0.1:3300/123",
        "v1:[2001:db8::1]:6789/0",
        "any:[fe80::1%2]:0/7",
        "cidr:10.0.0.0:0/0",
        "none:-/5",
        "-",
        "192.0.2.1:3300",
        "[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0]",
        "v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0",
        "[]",
    ];
    for text in texts {
        corpora.put("address", [&[2], text.as_bytes()].concat());
        corpora.put("address", [&[3], text.as_bytes()].concat());
        if let Ok(address) = text.parse::<EntityAddr>() {
            let mut out = vec![0];
            address.encode(&mut out);
            corpora.put("address", out);
            let mut out = vec![0];
            address.encode_legacy(&mut out);
            corpora.put("address", out);
        }
        if let Ok(vector) = text.parse::<AddrVec>() {
            let mut out = vec![1];
            vector.encode(&mut out);
            corpora.put("address", out);
        }
    }
    let typed = [
        "localhost:3300",
        "127.0.0.1:6800",
        "[::1]:6800",
        "::1",
        "[fe80::1%eth0]:1",
        "fe80::1%eth0",
        "unix:/run/outlast.sock",
        "unix:relative",
        "storage.example",
        "storage.example:65536",
        ":1",
        "",
    ];
    for text in typed {
        corpora.put("net_address", text);
    }
}

fn cephx(corpora: &mut Corpora) {
    let mut rng = StdRng::seed_from_u64(3);
    let mut keyring = Keyring::new();
    for (name, kind) in
        [("client.admin", KeyType::Aes), ("osd.0", KeyType::Aes256k), ("mds.a.b", KeyType::Aes256k)]
    {
        let name: EntityName = name.parse().expect("a good name");
        let key = Key::generate(kind, Timestamp::new(1_790_000_000, 7), &mut rng);
        corpora.put("key", key.to_base64().as_bytes());
        corpora.put("key", name.to_string());
        let entry =
            KeyringEntry::new(key).with_caps("mon", "allow *").with_caps("osd", "allow rwx pool=\"a b\"");
        keyring.insert(name, entry);
    }
    for word in ["aes", "aes256k", "client", "mgr", "client.", "nobody.a", "AQ=="] {
        corpora.put("key", word);
    }
    let text = keyring.to_text().expect("good names");
    corpora.put("keyring", text.as_bytes());
    corpora.put("keyring", &text.as_bytes()[..text.len() / 2]);
    for text in [
        "[client.a]\n\tkey = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n\tauid = 5\n",
        "# a remark\n; another\n\n[client.a]\nkey=\n",
        "[client.a]\r\n caps mon = \"allow \\\"r\\\"\" # behind\r\n",
        "[client.a]\ncaps osd = allow \\\n  rwx\n[client.a]\nkey = x\n",
        "[client.a",
        "key = AQ==",
    ] {
        corpora.put("keyring", text);
    }
    let name = EntityName::new(EntityType::Client, "copy");
    corpora.put("cephx_none", &none::monitor_request(&name, 0)[..]);
    corpora.put("cephx_none", &none::service_request(&name, 4100)[..]);

    // What an honest peer says, whole and in parts, and structures sealed by hand.
    let honest = [5, 0, 0xff, 0xff, 0];
    let sealed = |key: u8, usage: u8, inside: &[u8]| {
        let mut piece = vec![2, key, usage];
        for chunk in inside.chunks(255) {
            piece.extend([1, u8::try_from(chunk.len()).expect("chunks of 255")]);
            piece.extend(chunk);
        }
        piece.push(0);
        piece
    };
    for options in 0..16 {
        for target in ["cephx_client", "cephx_server"] {
            corpora.put(target, [&[options], &honest[..], &honest].concat());
            corpora.put(
                target,
                [&[options], &honest[..], &[5, 0, 20, 0, 1, 2, 9, 9, 5, 22, 0xff, 0xff, 0]].concat(),
            );
            corpora.put(target, [&[options, 1, 9, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0], &honest[..]].concat());
        }
        // A ticket reply: header, one auth ticket with a session key, its blob, a secret, nothing further.
        let mut key_part = vec![1];
        key_part.extend([1, 0]);
        key_part.extend([0; 8]);
        key_part.extend([16, 0]);
        key_part.extend([5; 16]);
        key_part.extend([0x10, 0x0e, 0, 0, 0, 0, 0, 0]);
        let mut reply = vec![1, 16, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0x20, 0, 0, 0, 1];
        reply[1] = u8::try_from(reply.len() - 2).expect("short");
        reply[2..4].copy_from_slice(&[0, 1]);
        reply.extend(sealed(0, 1, &key_part));
        reply.extend([1, 1, 0, 3, 0, 0, 1, 13, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        corpora.put("cephx_client", [&[options], &honest[..], &reply].concat());
        // A service's reply.
        let nonce = [2, 2, 5, 1, 1, 2, 6, 3, 0, 0, 1, 64];
        let reply = [&nonce[..], &[3; 64], &[0, 0, 0]].concat();
        corpora.put("cephx_client", [&[options], &honest[..], &reply].concat());
    }
}

// ---------------------------------------------------------------------- frames and conversations

fn frames(corpora: &mut Corpora) {
    let mut rng = StdRng::seed_from_u64(4);
    // Modes, compression, a changed bit; messages long and short, aborted or not.
    for options in [0, 1, 2, 3, 0x04, 0x08, 0x0c, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x40] {
        let mut input = vec![options, 0x60];
        if options & 0x20 != 0 {
            input.extend(rng.random::<u32>().to_le_bytes());
        }
        for (tag, data_len, abort) in [(17, 0_u16, 0), (20, 0, 0), (17, 30_000, 9), (17, 9_000, 0), (1, 0, 2)]
        {
            input.push(tag);
            if tag == 17 {
                input.extend(rng.random::<[u8; 32]>());
                input.extend([0; 9]);
                input.extend([5, 1, 2, 3, 4, 5, 0]);
                input.extend(data_len.to_le_bytes());
                input.extend([3, 7, 8, 9]);
            } else {
                input.extend([4, 1, 2, 3, 4]);
            }
            input.push(abort);
        }
        corpora.put("round_trip", input);
    }
    for algorithm in 0..4 {
        for text in [&b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..], b"abc", b""] {
            corpora.put("decompress", [&[algorithm | 4], text].concat());
        }
    }
}

/// What the peer of a connection says, in the words of `connection_frames`.
fn conversations(corpora: &mut Corpora) {
    let right = |tag: Tag| vec![tag.code() + 1, 0];
    let client =
        [Tag::Hello, Tag::AuthRequest, Tag::AuthSignature, Tag::CompressionRequest, Tag::ClientIdent];
    let server = [Tag::Hello, Tag::AuthDone, Tag::AuthSignature, Tag::CompressionDone, Tag::ServerIdent];
    let message = [25, 0x70, 200, 3, 9];
    let later: [&[u8]; 12] = [
        &[25, 0, 5, 25, 0, 6, 25, 4, 1, 7],
        &message,
        &[26, 0x10, 0, 1, 0, 8],
        &[30, 0xff, 0xff, 30, 5, 0, 32, 29, 26],
        &[19, 0, 28, 255],
        &[35, 19, 0, 28, 255, 28, 255, 35],
        &[33, 5, 21, 0, 29, 27],
        &[34],
        &[36, 29, 22, 0, 2, 0],
        &[21, 1, 0, 9],
        &[38, 0, 25, 0x50, 0, 16, 39],
        &[27, 5, 1, 2, 3, 4, 5],
    ];
    for (role, words) in [(0x80, client), (0, server)] {
        for options in [0, 1, 4, 8, 0x20, 0x24] {
            // With and without compression being spoken of: the banner says so either way.
            for banner in [&[0][..], &[1, 1, 0]] {
                let mut opening = vec![role | options, 0x40];
                opening.extend(banner);
                for tag in words {
                    if banner.len() > 1 && matches!(tag, Tag::CompressionRequest | Tag::CompressionDone) {
                        continue;
                    }
                    opening.extend(right(tag));
                }
                corpora.put("connection_frames", opening.clone());
                for more in later {
                    corpora.put("connection_frames", [&opening[..], more].concat());
                }
                corpora.put("connection_frames", [&opening[..], &later.concat()].concat());
            }
        }
        for tag in (1..=23).filter_map(Tag::from_wire) {
            let mut input = vec![role, 0, 0];
            for word in words {
                input.extend(right(word));
                input.extend(right(tag));
            }
            corpora.put("connection_frames", input);
        }
    }
    let mut rng = StdRng::seed_from_u64(5);
    for options in 0..128_u8 {
        if options & 0x20 != 0 && options & 0x0c == 8 {
            continue;
        }
        let mut input = vec![0; 40 + usize::from(options)];
        rng.fill_bytes(&mut input);
        input[0] = options;
        input[1] = 8;
        corpora.put("endpoint", input.clone());
        input[0] = options & 0x0f;
        corpora.put("decide", input);
    }
}

fn transfer(corpora: &mut Corpora) {
    let attributes = Attributes { mode: 0o644, modified: WireTime { seconds: 5, nanoseconds: 7 } };
    let error = FileError { kind: FileErrorKind::NoSpace, errno: 28 };
    let name = |text: &str| Name::new(text.as_bytes()).expect("a good name");
    let inside = |text: &str| Place::In { directory: 1, name: name(text) };
    let entries = vec![
        Entry::Directory { id: 1, place: Place::Item(0), attributes },
        Entry::File { id: 2, place: inside("a b"), size: 1 << 40, attributes },
        Entry::Link { id: 3, place: inside("c"), target: b"../d".to_vec(), modified: attributes.modified },
        Entry::End { id: 1 },
    ];
    let answers = vec![
        Answer::Want { id: 1 },
        Answer::Resume { id: 2, offset: 4096, hash: [7; 32] },
        Answer::Compare { id: 3, hash: [8; 32] },
        Answer::Done { id: 4, unchanged: true },
        Answer::Failed { id: 5, error },
    ];
    let request = Request {
        direction: Direction::Upload,
        flags: Flags { checksum: true, ..Flags::default() },
        destination: b"to/here".to_vec(),
        items: vec![Item { path: b"from".to_vec(), contents: true }],
    };
    let files =
        vec![BundleFile { id: 1, len: 3, hash: [1; 32] }, BundleFile { id: 2, len: 2, hash: [2; 32] }];
    let messages = [
        Copying::Hello { min: 1, max: 1 },
        Copying::Welcome { version: 1 },
        Copying::Refused { copy: 1, refusal: Refusal::ReadOnly },
        Copying::Refused { copy: 0, refusal: Refusal::Protocol("what?".to_owned()) },
        Copying::Refused { copy: 1, refusal: Refusal::Path { path: b"..".to_vec(), error } },
        Copying::Start { copy: 1, request },
        Copying::Started { copy: 1 },
        Copying::Entries { copy: 1, entries },
        Copying::Totals { copy: 1, files: 2, bytes: 3, complete: true },
        Copying::Answers { copy: 1, answers },
        Copying::Data { copy: 1, id: 2, offset: 0, last: Some([9; 32]), data: b"content"[..].into() },
        Copying::Data { copy: 1, id: 2, offset: 512, last: None, data: b"content"[..].into() },
        Copying::Bundle { copy: 1, files, data: b"abcde"[..].into() },
        Copying::Changed { copy: 1, id: 2, size: 3, attributes },
        Copying::Unchanged { copy: 1, id: 2 },
        Copying::GiveUp { copy: 1, id: 2, error },
        Copying::Report { copy: 1, path: b"x".to_vec(), error },
        Copying::Finish { copy: 1 },
        Copying::Finished { copy: 1 },
    ];
    for message in messages {
        let packet = message.encode();
        let len = u16::try_from(packet.front.len()).expect("short").to_le_bytes();
        corpora.put("transfer", [&packet.kind.to_le_bytes()[..], &len, &packet.front, &packet.data].concat());
    }
}

fn paths(corpora: &mut Corpora) {
    for path in [
        "",
        ".",
        "a",
        "./a/",
        "a//b/.",
        "/etc/passwd",
        "..",
        "a/../b",
        "a/b\0/c",
        "...",
        "..a/.b",
        "\u{e9}/-rf",
    ] {
        corpora.put("path", path);
    }
    corpora.put("path", vec![b'a'; 256]);
    corpora.put("path", [b'd', b'/'].repeat(600));
}

// ---------------------------------------------------------------------- the lock manager's nodes

/// One frame of each kind, as our encoder writes it; and for the targets that read operations, some of everything.
fn dlm(corpora: &mut Corpora) {
    for frame in dlm_frames() {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        // What a connection of the session is given: options, pieces, raw bytes over the first connection.
        let raw =
            [&[0, 0, 0, u8::try_from(bytes.len().min(255)).unwrap_or(255)], &bytes[..bytes.len().min(255)]];
        corpora.put("dlm_session", raw.concat());
        corpora.put("dlm_frame", bytes);
    }
    let mut rng = StdRng::seed_from_u64(3);
    for len in [20, 60, 200, 600] {
        for options in 0..8 {
            let mut input: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            input[0] = options;
            corpora.put("dlm_machine", input.clone());
            corpora.put("dlm_session", input);
        }
    }
    // A member asks for a lock, it is granted, converted, given up; users of our own in between.
    for (us, operation) in [(0, 16), (1, 48), (2, 80)] {
        let mut input = vec![us];
        for user in [6, 8, 9, 10, 11] {
            input.extend([user, 0, 255, 5, 0, 1, 7, 0]);
            input.extend([operation, 1, 0, 0, 1, 3, 0, 255, 0, 0, 0, 1, 2, 0, 6, 5, 6, 3, 0]);
        }
        corpora.put("dlm_machine", input);
    }
}

fn dlm_frames() -> Vec<DlmFrame> {
    let space = LockspaceId(0x1234_5678);
    let name = DlmName::new(b"       5               1").expect("a short name");
    let mut lookup = DlmMessage::new(space, MessageKind::Lookup);
    lookup.extra = name.as_bytes().to_vec();
    let mut convert = DlmMessage::new(space, MessageKind::Convert);
    convert.requested = Some(Mode::Exclusive);
    convert.extra = vec![7; 32];
    let lock = RcomLock {
        process: 42,
        lock: LockId(1),
        remote_lock: LockId(0),
        parent_lock: LockId::NONE,
        parent_remote_lock: LockId::NONE,
        flags: LockFlags::VALUE_BLOCK,
        distributed_flags: DistributedFlags::USER,
        value_sequence: 3,
        result: 0,
        requested: Some(Mode::ProtectedRead),
        granted: Some(Mode::ProtectedRead),
        queue: Some(Queue::Granted),
        callbacks: CallbackFlags::COMPLETION,
        wait_kind: 0,
        name,
        value_block: vec![1; 32],
    };
    let slots = vec![Slot { node: NodeId(1), slot: 1 }, Slot { node: NodeId(2), slot: 2 }];
    let reply =
        StatusReply { value_block_bytes: 32, our_slot: 1, generation: 2, slots, ..StatusReply::default() };
    let rcoms = [
        RcomBody::Status { need_slots: true, incarnation: 5 },
        RcomBody::StatusReply(reply),
        RcomBody::Names { after: None },
        RcomBody::Names { after: Some(name) },
        RcomBody::NamesReply { names: vec![name], complete: true },
        RcomBody::Lookup { name },
        RcomBody::LookupReply,
        RcomBody::Lock(lock.clone()),
        RcomBody::LockReply(RcomLock { value_block: Vec::new(), ..lock }),
    ];
    let rcoms = rcoms.map(|body| {
        Inner::Rcom(Rcom { lockspace: space, result: 0, id: 7, sequence: 8, sequence_reply: 6, body })
    });
    let inners = [Inner::Message(lookup), Inner::Message(convert), Inner::Fin].into_iter().chain(rcoms);
    let mut bodies = vec![Body::Ack { expected: 0 }, Body::Ack { expected: u32::MAX }];
    for (number, inner) in (0..).zip(inners) {
        if inner != Inner::Fin {
            bodies.push(Body::Bare(inner.clone()));
        }
        bodies.push(Body::Numbered { number, options: Options::NONE, inner: inner.clone() });
        let options = Options::new(&[1, 0, 8, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).expect("one option");
        bodies.push(Body::Numbered { number, options, inner });
    }
    let frame = |body| DlmFrame { version: Version::V3_2, sender: NodeId(2), body };
    bodies.into_iter().map(frame).collect()
}
