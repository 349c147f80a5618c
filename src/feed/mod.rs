//! The types of the domain: feeds, object keys, events and cursors. Pure: no I/O, no clock.

mod cursor;
mod event;
mod id;
mod key;
mod object_name;
mod sequencer;

pub use cursor::{Cursor, CursorError, Epoch, Tag};
pub use event::{EventKind, FeedEvent, Photo};
pub use id::{FeedId, FeedIdError};
pub use key::{KeyError, KeyPrefix, KeyPrefixError, ObjectKey};
pub use object_name::{NameSecret, issue_name, name_matches_type, verify_issued_name};
pub use sequencer::{Sequencer, SequencerError};
