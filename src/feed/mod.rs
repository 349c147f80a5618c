//! The words that everything else is said in: feeds, keys, events and positions. Pure.

mod cursor;
mod event;
mod id;
mod key;
mod name;
mod sequencer;

pub use cursor::{Cursor, CursorError, Epoch, Tag};
pub use event::{FeedEvent, Kind, Photo};
pub use id::{FeedId, FeedIdError};
pub use key::{KeyError, KeyPrefix, KeyPrefixError, ObjectKey};
pub use name::{NameSecret, issue_name, issued_size, name_fits};
pub use sequencer::{Sequencer, SequencerError};
