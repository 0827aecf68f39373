//! As much of the language of OSDs as the tests need: an operation on an object and its reply
//! (`src/messages/MOSDOp.h`, version 8, and `MOSDOpReply.h`, version 8, in the layouts of `src/include/rados.h` and
//! `src/osd/osd_types.h`), and the part of a map of OSDs that says which one it is (`src/messages/MOSDMap.h`).

use outlast::Message;

/// Message types (`src/include/ceph_fs.h`).
pub const MSG_OSD_MAP: u16 = 41;
pub const MSG_OSD_OP: u16 = 42;
pub const MSG_OSD_OP_REPLY: u16 = 43;

/// Operations (`src/include/rados.h`).
const OP_READ: u16 = 0x1201;
const OP_WRITE_FULL: u16 = 0x2202;
pub const OP_WRITE: u16 = 0x2201;

/// What an operation does (`CEPH_OSD_FLAG_*`).
const FLAG_ON_DISK: u32 = 0x04;
const FLAG_READ: u32 = 0x10;
const FLAG_WRITE: u32 = 0x20;

const OPERATION_BYTES: usize = 38;
/// Identifiers of a trace, of which there is none.
const TRACE_BYTES: usize = 24;
/// The newest state of an object, not a snapshot (`CEPH_NOSNAP`).
const NO_SNAPSHOT: u64 = u64::MAX - 1;

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn zeros(&mut self, count: usize) -> &mut Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        self.u32(u32::try_from(text.len()).expect("short")).bytes(text)
    }

    /// The header of a structure: its version, the oldest that reads it, its length.
    fn structure(&mut self, version: u8, compatible: u8, len: u32) -> &mut Self {
        self.bytes(&[version, compatible]).u32(len)
    }
}

/// Where an object is, as its sender computed it. OSDs believe the hash.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub pool: u64,
    pub groups: u32,
    pub name: &'a str,
    pub hash: u32,
    /// The map by which it was computed.
    pub epoch: u32,
}

impl Place<'_> {
    fn operation(&self, tid: u64, (code, flags): (u16, u32), len: usize, data: Vec<u8>) -> Message {
        let mut front = Writer(Vec::new());
        // The group and, of several parts of an object, which (none).
        front.structure(1, 1, 18).bytes(&[1]).u64(self.pool).u32(self.hash % self.groups).u32(u32::MAX);
        front.bytes(&[u8::MAX]);
        front.u32(self.hash).u32(self.epoch).u32(flags | FLAG_ON_DISK);
        // The request's identity where it is not its sender's and its transaction's.
        front.structure(2, 2, 21).zeros(21);
        front.zeros(TRACE_BYTES);
        // The sender's incarnation and the time.
        front.u32(0).zeros(8);
        front.structure(6, 3, 28).u64(self.pool).u32(u32::MAX).text(b"").text(b"").u64(u64::MAX);
        front.text(self.name.as_bytes());
        front.bytes(&1_u16.to_le_bytes());
        front.bytes(&code.to_le_bytes()).u32(0).u64(0).u64(len as u64).zeros(12);
        front.u32(u32::try_from(data.len()).expect("small"));
        // No snapshots; the number of the attempt; the sender's features.
        front.u64(NO_SNAPSHOT).u64(0).u32(0).u32(0).u64(0);
        let mut message = Message::new(MSG_OSD_OP).tid(tid).front(front.0).data(data);
        (message.version, message.compat_version) = (8, 3);
        message
    }

    /// Replaces the object's content.
    pub fn write_full(&self, tid: u64, data: Vec<u8>) -> Message {
        self.operation(tid, (OP_WRITE_FULL, FLAG_WRITE), data.len(), data)
    }

    /// Writes at the object's beginning.
    pub fn write(&self, tid: u64, data: Vec<u8>) -> Message {
        self.operation(tid, (OP_WRITE, FLAG_WRITE), data.len(), data)
    }

    /// Asks for the first bytes of the object.
    pub fn read(&self, tid: u64, len: usize) -> Message {
        self.operation(tid, (OP_READ, FLAG_READ), len, Vec::new())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn text(&mut self) -> &'a [u8] {
        let len = self.u32() as usize;
        self.take(len)
    }
}

/// A group: a version, the pool, which one of it, and a field that is no longer used.
const GROUP_BYTES: usize = 1 + 8 + 4 + 4;

/// What an OSD says became of an operation: 0 or more, or a negative error number.
pub fn result(reply: &Message) -> i32 {
    let mut front = Reader(&reply.front);
    front.text();
    front.take(GROUP_BYTES + 8);
    front.u32().cast_signed()
}

/// The newest epoch that a message with maps of OSDs tells of.
pub fn newest_epoch(maps: &Message) -> u32 {
    let mut front = Reader(&maps.front);
    // The cluster's identity; changes, and whole maps, by their epochs; the oldest epoch.
    front.take(16);
    for _ in 0..2 {
        for _ in 0..front.u32() {
            front.u32();
            front.text();
        }
    }
    front.u32();
    front.u32()
}

/// An operation that came from a client.
pub struct Operation<'a> {
    group: &'a [u8],
    epoch: u32,
    flags: u32,
    name: &'a [u8],
    operations: Vec<&'a [u8]>,
    attempt: u32,
}

impl<'a> Operation<'a> {
    /// Reads version 8; later versions have more in the trace.
    pub fn read(message: &'a Message) -> Self {
        assert_eq!((message.kind, message.version), (MSG_OSD_OP, 8));
        let mut front = Reader(&message.front);
        let structure = |front: &mut Reader<'a>| {
            front.take(2);
            front.text()
        };
        let group = &structure(&mut front)[..GROUP_BYTES];
        front.u32();
        let (epoch, flags) = (front.u32(), front.u32());
        structure(&mut front);
        front.take(TRACE_BYTES + 4 + 8);
        structure(&mut front);
        let name = front.text();
        let count = u16::from_le_bytes(front.take(2).try_into().expect("two bytes"));
        let operations = (0..count).map(|_| front.take(OPERATION_BYTES)).collect();
        front.take(16);
        let snapshots = front.u32() as usize;
        front.take(8 * snapshots);
        let attempt = front.u32();
        front.u64();
        assert!(front.0.is_empty(), "{} bytes behind the operation", front.0.len());
        Self { group, epoch, flags, name, operations, attempt }
    }

    /// The codes of what it does, each with the length of the data that it concerns.
    pub fn codes(&self) -> Vec<(u16, u64)> {
        let code = |op: &&[u8]| {
            let mut op = Reader(op);
            let code = u16::from_le_bytes(op.take(2).try_into().expect("two bytes"));
            op.take(12);
            (code, op.u64())
        };
        self.operations.iter().map(code).collect()
    }

    pub fn name(&self) -> &[u8] {
        self.name
    }

    /// That all of it was done.
    pub fn done(&self) -> Message {
        let mut front = Writer(Vec::new());
        front.text(self.name).bytes(self.group).u64(u64::from(self.flags)).u32(0);
        // The version that the object would be known by at a second attempt.
        front.zeros(12).u32(self.epoch);
        front.u32(u32::try_from(self.operations.len()).expect("few"));
        for operation in &self.operations {
            // The length of what it carried is not said again.
            front.bytes(&operation[..OPERATION_BYTES - 4]).u32(0);
        }
        front.u32(self.attempt).zeros(4 * self.operations.len());
        // The object's version, twice; no other place to ask.
        front.zeros(12 + 8 + 1).zeros(TRACE_BYTES);
        let mut message = Message::new(MSG_OSD_OP_REPLY).front(front.0);
        (message.version, message.compat_version) = (8, 2);
        message
    }
}
