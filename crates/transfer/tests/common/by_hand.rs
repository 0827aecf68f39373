//! Speaking the protocol by hand.
#![allow(clippy::wildcard_enum_match_arm, reason = "what is not expected fails the test")]

use outlast::Session;
use outlast_transfer::name::Name;
use outlast_transfer::wire::{Answer, Attributes, Entry, Flags, Item, Message, Packet, Place, Request};
use outlast_transfer::{Direction, Refusal};

use super::within;

/// One end that says what it likes.
pub struct ByHand(pub Session);

impl ByHand {
    pub async fn say_packet(&self, packet: Packet) {
        let message = outlast::Message::new(packet.kind).front(packet.front).data(packet.data);
        drop(within(self.0.send(message)).await.expect("taken"));
    }

    pub async fn say(&self, message: Message) {
        self.say_packet(message.encode()).await;
    }

    pub async fn hear(&self) -> Message {
        let message = within(self.0.recv()).await.expect("a message");
        let packet = Packet { kind: message.kind, front: message.front, data: message.data };
        Message::decode(packet).expect("one of ours")
    }

    pub async fn hear_answers(&self, count: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < count {
            match self.hear().await {
                Message::Answers { answers: more, .. } => answers.extend(more),
                Message::Totals { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        answers
    }

    pub async fn hear_breach(&self) -> String {
        loop {
            match self.hear().await {
                Message::Refused { refusal: Refusal::Protocol(text), .. } => return text,
                Message::Answers { .. } | Message::Totals { .. } | Message::Entries { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// As a client: agrees on a version.
    pub async fn hello(&self) {
        self.say(Message::Hello { min: 1, max: 1 }).await;
        assert_eq!(self.hear().await, Message::Welcome { version: 1 });
    }

    /// As a client: begins to upload one thing called `name` to `destination`.
    pub async fn start_upload(&self, destination: &str, name: &str) -> Message {
        self.hello().await;
        let items = vec![Item { path: name.into(), contents: name.is_empty() }];
        self.say(Message::Start { copy: 1, request: request(Direction::Upload, destination, items) }).await;
        self.hear().await
    }

    pub async fn entries(&self, entries: Vec<Entry>) {
        self.say(Message::Entries { copy: 1, entries }).await;
    }
}

pub fn request(direction: Direction, destination: &str, items: Vec<Item>) -> Request {
    Request { direction, flags: Flags::default(), destination: destination.into(), items }
}

pub fn attributes() -> Attributes {
    Attributes { mode: 0o644, ..Attributes::default() }
}

pub fn inside(directory: u64, name: &str) -> Place {
    Place::In { directory, name: Name::new(name.as_bytes()).expect("a name") }
}

pub fn file(id: u64, place: Place, size: u64) -> Entry {
    Entry::File { id, place, size, attributes: attributes() }
}

pub fn directory(id: u64, place: Place) -> Entry {
    Entry::Directory { id, place, attributes: Attributes { mode: 0o755, ..Attributes::default() } }
}
