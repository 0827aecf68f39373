//! The loop of one connection.

use crate::alarm::Alarm;
use crate::{Clock, Socket};
use outlast_session::{Instant, StreamChannel};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::coop;
use tokio::time::Sleep;

/// Bytes read before what they brought is handed on, and its receivers have their turn: the messages are still in the
/// cache then, the read buffer is free again for the next ones, and a fast peer cannot keep the connection from
/// writing.
pub const READ_BYTES_PER_TURN: usize = 128 << 10;
/// Slices that one system call writes at most. More than 64 bring no gain that can be measured.
const SLICES_MAX: usize = 64;
/// Tried first.
const SLICES_FEW: usize = 4;
/// A deadline nearer than this is most often that of an acknowledgement which the answer to what came in will carry.
/// The timer is set only when there was no answer at once: a timer that is about to run out costs the system more,
/// each time that the process sleeps, than a turn of this loop.
const DEADLINE_NEAR: Duration = Duration::from_millis(50);
/// Deadlines that are no nearer than this are not the runtime's business ([`crate::alarm`]).
const ALARM_MIN: Duration = Duration::from_secs(1);
/// Turns that a connection takes before other tasks have theirs.
const TURNS_MAX: usize = 32;
/// How long a connection that ended in order waits for the peer to close too. A socket closed with unread bytes sends
/// a reset, which may overtake the last words.
pub const LINGER_MAX: Duration = Duration::from_secs(1);
/// Bytes read and thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Whether the session has more for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Everything that can be written now was handed to the channel.
    Done,
    /// The channel is full: ask again once it has written something.
    More,
}

/// What the owner of a connection contributes to its loop: the meeting of channel and session.
pub trait Host<C: StreamChannel> {
    /// Called in every turn of the loop, between reading and writing: take from the channel what is for others, lock
    /// the session, and let them [`StreamChannel::sync`].
    ///
    /// `waker` brings the loop back, from any thread, when the session has something for this connection: keep a
    /// clone, under the same lock as the session so that no wake is lost, and wake it once per exchange at most.
    ///
    /// # Errors
    /// The connection ends.
    fn exchange(&mut self, channel: &mut C, now: Instant, waker: &Waker) -> Result<Exchange, C::Error>;

    /// Called when everything was written that the socket takes: whether the connection has come to its orderly end.
    fn finished(&mut self, channel: &mut C) -> Option<C::Error>;
}

/// Why a connection ended.
#[derive(Debug)]
pub struct DriveEnd<E> {
    /// The channel's reason.
    pub error: E,
    /// What the system said, if it was the socket that failed.
    pub socket: Option<io::Error>,
}

/// Runs one connection until it ends.
///
/// One turn is: the timer, if it has run out; reading until nothing is left or [`READ_BYTES_PER_TURN`] came;
/// [`Host::exchange`]; writing until nothing is left or the socket is full. Turns repeat while there is work, with
/// other tasks in between, then the task sleeps until the socket, the timer or the host's waker.
///
/// Dropping the future closes the connection. The channel is then as if the line had been cut.
pub async fn drive<C, H>(
    mut socket: Socket,
    channel: &mut C,
    host: &mut H,
    clock: &Clock,
) -> DriveEnd<C::Error>
where
    C: StreamChannel,
    H: Host<C>,
{
    let mut timer = pin!(tokio::time::sleep(crate::CLOCK_CHECK_MAX));
    let deadline = channel.poll_timeout();
    let mut turn = Turn {
        socket: &mut socket,
        channel,
        host,
        clock,
        deadline,
        timers: Timers::default(),
        hesitated: false,
    };
    let (end, orderly) = poll_fn(|cx| turn.poll(cx, timer.as_mut())).await;
    if orderly {
        // The peer closes when it has read our last word, and that closes this end too.
        let _ = tokio::time::timeout(LINGER_MAX, linger(&mut socket)).await;
    }
    end
}

struct Turn<'a, C, H> {
    socket: &'a mut Socket,
    channel: &'a mut C,
    host: &'a mut H,
    clock: &'a Clock,
    /// What the channel said at the end of the last turn.
    deadline: Option<Instant>,
    timers: Timers,
    /// Others were let run before the timer is set.
    hesitated: bool,
}

/// What wakes the loop when its deadline comes. Timers are moved only to an earlier time: deadlines move on with every
/// message, and a timer that runs out too early costs less than one that is set anew each time.
#[derive(Default)]
struct Timers {
    /// What the runtime's timer is set to.
    near: Option<Armed>,
    /// What `alarm` is set to.
    far: Option<Armed>,
    alarm: Alarm,
}

struct Armed {
    at: Instant,
    /// Whom the timer wakes.
    waker: Waker,
}

impl Armed {
    fn is_in_time(&self, deadline: Instant, now: Instant, waker: &Waker) -> bool {
        self.at <= deadline && self.at > now && self.waker.will_wake(waker)
    }
}

impl Timers {
    /// Whether the loop is woken at the deadline or before.
    fn are_set(&self, deadline: Instant, now: Instant, waker: &Waker, timer: &Sleep) -> bool {
        let in_time = |armed: &Armed| armed.is_in_time(deadline, now, waker);
        self.far.as_ref().is_some_and(|armed| in_time(armed) && self.alarm.is_set())
            || self.near.as_ref().is_some_and(|armed| in_time(armed) && !timer.is_elapsed())
    }
}

/// Why the loop ends.
enum Stop<E> {
    Channel(E),
    /// The peer closed its direction.
    Eof,
    Socket(io::Error),
}

/// What to do after a turn.
enum After {
    /// Another one: there is more to do at once.
    Again,
    /// Another one, when those have run for whom something came in.
    Others,
    /// Nothing before something happens.
    Sleep,
}

/// How the connection comes to rest.
enum Sleeps {
    /// The timer is set.
    Well,
    /// Not yet, the others first: the deadline is near, and may be gone once those have run for whom something came in;
    /// or this task has used up what the runtime grants it at a time.
    OnceOthersRan,
    /// The time has come meanwhile.
    Not,
}

/// How far reading came.
enum Read {
    /// Until there was nothing left.
    All,
    /// Until the channel wanted no more: what it waits for is a meeting with its session.
    Paused,
    /// There may be more.
    Some,
    /// To the end of the stream. What came before it is still to be handed on.
    End(Option<io::Error>),
}

impl<C: StreamChannel, H: Host<C>> Turn<'_, C, H> {
    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<(DriveEnd<C::Error>, bool)> {
        for _ in 0..TURNS_MAX {
            let now = self.clock.now();
            let after = match self.turn(cx, now) {
                Ok(after) => after,
                Err(stop) => {
                    // A last word to the peer, if the socket takes it at once.
                    let _ = self.write(cx, now);
                    return Poll::Ready((self.end(stop, now), false));
                }
            };
            if let Some(error) = self.host.finished(self.channel) {
                return Poll::Ready((DriveEnd { error, socket: None }, true));
            }
            match after {
                After::Again => continue,
                After::Others => break,
                After::Sleep => {}
            }
            match self.sleep(cx, now, timer.as_mut()) {
                Sleeps::Well => return Poll::Pending,
                Sleeps::OnceOthersRan => break,
                Sleeps::Not => {}
            }
        }
        // There is more to do; the others first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sets the timer.
    fn sleep(&mut self, cx: &mut Context<'_>, now: Instant, mut timer: Pin<&mut Sleep>) -> Sleeps {
        let Some(deadline) = self.deadline else { return Sleeps::Well };
        let set = self.timers.are_set(deadline, now, cx.waker(), &timer);
        let near = deadline < now + DEADLINE_NEAR;
        let hesitates = near && !set && !self.hesitated;
        self.hesitated = hesitates;
        if set {
            return Sleeps::Well;
        }
        if hesitates {
            return Sleeps::OnceOthersRan;
        }
        let at = deadline.min(now + crate::CLOCK_CHECK_MAX);
        let armed = Some(Armed { at, waker: cx.waker().clone() });
        let wait = at.saturating_since(now);
        if wait >= ALARM_MIN && self.timers.alarm.set(wait, cx.waker()) {
            self.timers.far = armed;
            return Sleeps::Well;
        }
        // Without budget left the runtime's timer is pending whatever its time, and notes nobody to be woken by it.
        if !coop::has_budget_remaining() {
            return Sleeps::OnceOthersRan;
        }
        timer.as_mut().reset(self.clock.timer(deadline, now));
        self.timers.near = armed;
        if timer.poll(cx).is_pending() { Sleeps::Well } else { Sleeps::Not }
    }

    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<After, Stop<C::Error>> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.channel.handle_timeout(now).map_err(Stop::Channel)?;
        }
        let read = self.read(cx, now).map_err(Stop::Channel)?;
        let exchange = self.host.exchange(self.channel, now, cx.waker()).map_err(Stop::Channel)?;
        match read {
            Read::All | Read::Paused | Read::Some => {}
            Read::End(None) => return Err(Stop::Eof),
            Read::End(Some(error)) => return Err(Stop::Socket(error)),
        }
        let all_written = self.write(cx, now)?;
        self.deadline = self.channel.poll_timeout();
        let reads_again = matches!(read, Read::Paused) && !self.channel.poll_read().is_empty();
        Ok(if matches!(read, Read::Some) {
            After::Others
        } else if reads_again || (exchange == Exchange::More && all_written) {
            After::Again
        } else {
            After::Sleep
        })
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Read, C::Error> {
        let mut total = 0;
        while total < READ_BYTES_PER_TURN {
            let buffer = self.channel.poll_read();
            if buffer.is_empty() {
                return Ok(Read::Paused);
            }
            match self.socket.poll_read(cx, buffer) {
                Poll::Pending => return Ok(Read::All),
                Poll::Ready(Ok(0)) => return Ok(Read::End(None)),
                Poll::Ready(Ok(len)) => {
                    self.channel.handle_read(len, now)?;
                    total += len;
                }
                Poll::Ready(Err(error)) => return Ok(Read::End(Some(error))),
            }
        }
        Ok(Read::Some)
    }

    /// Whether everything was written.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Stop<C::Error>> {
        loop {
            // Most often there is nothing, or one small message, and a large array costs more than to ask twice.
            let mut few = [IoSlice::new(&[]); SLICES_FEW];
            let count = self.channel.poll_write(&mut few);
            let written = if count == 0 {
                return Ok(true);
            } else if count < SLICES_FEW {
                self.socket.poll_write(cx, &few[..count])
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = self.channel.poll_write(&mut slices);
                self.socket.poll_write(cx, &slices[..count])
            };
            match written {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => return Err(Stop::Socket(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => self.channel.handle_written(len, now),
                Poll::Ready(Err(error)) => return Err(Stop::Socket(error)),
            }
        }
    }

    fn end(&mut self, stop: Stop<C::Error>, now: Instant) -> DriveEnd<C::Error> {
        match stop {
            Stop::Channel(error) => DriveEnd { error, socket: None },
            Stop::Eof => DriveEnd { error: self.channel.handle_eof(now), socket: None },
            Stop::Socket(error) => DriveEnd { error: self.channel.handle_eof(now), socket: Some(error) },
        }
    }
}

async fn linger(socket: &mut Socket) -> io::Result<()> {
    poll_fn(|cx| socket.poll_shutdown(cx)).await?;
    let mut thrown_away = 0;
    // Not in the future itself, which every connection holds from its beginning.
    let mut buffer = vec![0; 2048];
    while thrown_away < LINGER_BYTES_MAX {
        match poll_fn(|cx| socket.poll_read(cx, &mut buffer)).await? {
            0 => break,
            len => thrown_away += len,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    #[derive(Debug, thiserror::Error)]
    #[error("over")]
    struct Over;

    /// Says and hears nothing, and ends when its time has come.
    struct Deadline {
        at: Instant,
        buffer: [u8; 1],
    }

    impl StreamChannel for Deadline {
        type Session = ();
        type Error = Over;

        fn poll_read(&mut self) -> &mut [u8] {
            &mut self.buffer
        }

        fn handle_read(&mut self, _: usize, _: Instant) -> Result<(), Over> {
            Ok(())
        }

        fn handle_eof(&mut self, _: Instant) -> Over {
            Over
        }

        fn sync(&mut self, (): &mut (), _: Instant) -> Result<(), Over> {
            Ok(())
        }

        fn poll_write<'a>(&'a mut self, _: &mut [IoSlice<'a>]) -> usize {
            0
        }

        fn handle_written(&mut self, _: usize, _: Instant) {}

        fn poll_timeout(&self) -> Option<Instant> {
            Some(self.at)
        }

        fn handle_timeout(&mut self, now: Instant) -> Result<(), Over> {
            if now < self.at { Ok(()) } else { Err(Over) }
        }
    }

    /// Takes all that the runtime grants a task at a time, in its first `greedy` turns.
    struct Greedy {
        greedy: u32,
    }

    impl Host<Deadline> for Greedy {
        fn exchange(&mut self, _: &mut Deadline, _: Instant, waker: &Waker) -> Result<Exchange, Over> {
            if self.greedy > 0 {
                self.greedy -= 1;
                let mut cx = Context::from_waker(waker);
                while coop::has_budget_remaining() {
                    if let Poll::Ready(taken) = coop::poll_proceed(&mut cx) {
                        taken.made_progress();
                    }
                }
            }
            Ok(Exchange::Done)
        }

        fn finished(&mut self, _: &mut Deadline) -> Option<Over> {
            None
        }
    }

    #[tokio::test]
    async fn a_deadline_is_kept_though_the_turn_that_sets_the_timer_has_used_up_the_tasks_budget() {
        for wait in [DEADLINE_NEAR / 5, 3 * DEADLINE_NEAR] {
            for greedy in [0, 1, 2, 3] {
                let (socket, _peer) = UnixStream::pair().expect("a pair");
                let socket = Socket::unix(socket).expect("a socket");
                // A task of its own, as in use: nothing else wakes it.
                let driven = tokio::spawn(async move {
                    let clock = Clock::new();
                    let mut channel = Deadline { at: clock.now() + wait, buffer: [0] };
                    let mut host = Greedy { greedy };
                    drive(socket, &mut channel, &mut host, &clock).await;
                    host.greedy
                });
                let left = tokio::time::timeout(crate::CLOCK_CHECK_MAX / 2, driven).await;
                let left = left.unwrap_or_else(|_| {
                    panic!("the timer of {wait:?} never woke the loop after {greedy} greedy turns")
                });
                assert_eq!(left.expect("no panic"), 0, "the budget was used up as often as planned");
            }
        }
    }

    #[tokio::test]
    async fn a_deadline_that_is_far_away_is_kept_too() {
        let (socket, _peer) = UnixStream::pair().expect("a pair");
        let socket = Socket::unix(socket).expect("a socket");
        let clock = Clock::new();
        let at = clock.now() + ALARM_MIN + DEADLINE_NEAR;
        let driven = tokio::spawn(async move {
            let mut channel = Deadline { at, buffer: [0] };
            drive(socket, &mut channel, &mut Greedy { greedy: 0 }, &Clock::new()).await
        });
        let ended = tokio::time::timeout(crate::CLOCK_CHECK_MAX / 2, driven).await.expect("in time");
        assert!(ended.expect("no panic").socket.is_none(), "by the deadline");
        assert!(clock.now() >= at, "not before it");
    }
}
