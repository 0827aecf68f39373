//! Sets of bits. Bits without a name are kept as they came.

use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign};

macro_rules! bits {
    ($(#[$doc:meta])* $type:ident { $($(#[$bit_doc:meta])* $bit:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
        pub struct $type(pub u32);

        impl $type {
            /// No bit.
            pub const NONE: Self = Self(0);
            $($(#[$bit_doc])* pub const $bit: Self = Self($value);)*

            const NAMES: &'static [(u32, &'static str)] = &[$(($value, stringify!($bit))),*];

            /// Whether all bits of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// With the bits of `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Without the bits of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl BitOr for $type {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl BitOrAssign for $type {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }

        impl BitAnd for $type {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_bits(f, stringify!($type), self.0, Self::NAMES)
            }
        }
    };
}

fn write_bits(f: &mut fmt::Formatter<'_>, of: &str, bits: u32, names: &[(u32, &'static str)]) -> fmt::Result {
    write!(f, "{of}(")?;
    let mut left = bits;
    let mut separator = "";
    for (bit, name) in names {
        if left & bit != 0 {
            write!(f, "{separator}{name}")?;
            left &= !bit;
            separator = " | ";
        }
    }
    if left != 0 || bits == 0 {
        write!(f, "{separator}{left:#x}")?;
    }
    f.write_str(")")
}

bits! {
    /// What the user asks for beside a mode (`DLM_LKF_*` in Linux's `dlmconstants.h`).
    LockFlags {
        /// Do not wait: answer EAGAIN if the lock cannot be granted at once.
        NO_QUEUE = 0x1;
        /// Take back a request or a conversion that waits.
        CANCEL = 0x2;
        /// Change the mode of a lock that is held.
        CONVERT = 0x4;
        /// Read or write the value block.
        VALUE_BLOCK = 0x8;
        /// A conversion goes to the end of the queue and is not granted before those that wait.
        QUEUE_CONVERSION = 0x10;
        /// Invalidate the value block.
        INVALIDATE_VALUE_BLOCK = 0x20;
        /// Break a deadlock of two conversions by demoting this one to null.
        CONVERSION_DEADLOCK = 0x40;
        /// The lock outlives the process.
        PERSISTENT = 0x80;
        /// No deadlock timer; of old.
        NO_DEADLOCK_WAIT = 0x100;
        /// No deadlock search; of old.
        NO_DEADLOCK_BLOCK = 0x200;
        /// A null lock is granted past all that wait.
        EXPEDITE = 0x400;
        /// With [`LockFlags::NO_QUEUE`]: tell the holders nevertheless that they block.
        NO_QUEUE_CALLBACK = 0x800;
        /// To the head of the queue.
        HEAD_OF_QUEUE = 0x1000;
        /// Grant as soon as it is compatible, without regard to order.
        NO_ORDER = 0x2000;
        /// Leave the lock behind, or take over one that was left.
        ORPHAN = 0x4000;
        /// Take protected read instead, if that can be granted.
        ALTERNATE_PROTECTED_READ = 0x8000;
        /// Take concurrent write instead, if that can be granted.
        ALTERNATE_CONCURRENT_WRITE = 0x1_0000;
        /// Unlock even if a conversion waits.
        FORCE_UNLOCK = 0x2_0000;
        /// Of old.
        TIMEOUT = 0x4_0000;
    }
}

bits! {
    /// What the status block says beside the status (`DLM_SBF_*` in Linux's `dlm.h`).
    StatusFlags {
        /// A conversion was demoted to null on its way, to break a deadlock.
        DEMOTED = 0x1;
        /// The value block is not valid: who wrote it last died before it could be kept.
        VALUE_NOT_VALID = 0x2;
        /// The alternate mode was granted.
        ALTERNATE_MODE = 0x4;
    }
}

bits! {
    /// What nodes tell each other of a lock (`DLM_DFL_*`).
    DistributedFlags {
        /// The lock is one of a program, not of the kernel.
        USER = 0x1;
        /// The lock was left behind.
        ORPHAN = 0x2;
    }
}

bits! {
    /// What the owner of a lock wants to be told (`DLM_CB_*`).
    CallbackFlags {
        /// When it ends.
        COMPLETION = 0x1;
        /// When it blocks others.
        BLOCKING = 0x2;
    }
}

bits! {
    /// How far a node is with a recovery (`DLM_RS_*`). The ones that end in `ALL` are set by the lowest node when all
    /// others are so far.
    RecoveryStatus {
        /// The members are known.
        NODES = 0x1;
        /// All know the members.
        NODES_ALL = 0x2;
        /// The directory is rebuilt.
        DIRECTORY = 0x4;
        /// All have rebuilt theirs.
        DIRECTORY_ALL = 0x8;
        /// The locks are with their new masters.
        LOCKS = 0x10;
        /// All have sent theirs.
        LOCKS_ALL = 0x20;
        /// Done.
        DONE = 0x40;
        /// All are done.
        DONE_ALL = 0x80;
    }
}
