//! What is logged, and at which level.
//!
//! Everything goes through [`tracing`] under the target `outlast` (and `outlast_net` for sockets); nothing is printed.
//!
//! | level | what | example |
//! | --- | --- | --- |
//! | error | a session ends against the will of its user, or with messages in it that are lost | expired, refused, lost with a lossy session's connection, closed with messages unacknowledged |
//! | warn | something is wrong, and is being mended | connection lost, attempt failed, session reset by the peer, a peer refused |
//! | info | the life of messengers and sessions | listening, connected, resumed, closed, given up with nothing to lose |
//! | debug | steps of connections | dialling, accepted, the peer's request and our decision |
//! | trace | each exchange of a connection with its session | bytes and messages, never their content |
//!
//! Every event of a session or a connection carries these fields, as far as they are known: `session` and `channel`
//! (numbers of this process, which never travel), `peer` (the name it proved, or claimed, or else its type and number), `address`, `state` (its name). What is not known is left
//! out: a session that dials for the first time does not know yet whom it will find.
//!
//! No key, ticket, secret, cookie or payload is logged at any level. What a peer claims is shown only in the
//! bounded forms of names and addresses.
//!
//! A peer that comes again and again with a wrong key makes one line per connection at warn; who needs to bound that
//! filters the target.
