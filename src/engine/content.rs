//! The pages of one object after a change, and the head that follows.
//!
//! Invariants:
//!   * Count and bytes are those of all pages, of those that the change left alone too.

use crate::format::entry::{Head, PageEntry};
use crate::format::own_keys::is_content;
use crate::ids::{KeyKind, Life};
use crate::object::overlay::Layer;

/// The pages of one object after a change.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Of a one-page object.
    pub inline: Option<PageEntry>,
    /// By fence key; none for a fence that is gone.
    pub pages: Vec<(Vec<u8>, Option<PageEntry>)>,
    pub count: u64,
    pub bytes: u64,
    pub is_approximate: bool,
    /// Whether the directory has pages that were left as they are, whatever is counted of them:
    /// what deltas hold is not.
    pub keeps_pages: bool,
}

/// The head after a change; takes the page of a one-page object out of the content.
pub(super) fn head_of(layer: &Layer, life: Life, content: &mut Content) -> Head {
    let said = layer.after.to_head(life);
    let is_empty =
        content.inline.is_none() && content.pages.iter().all(|(_, entry)| entry.is_none());
    Head {
        deleted: is_empty && !content.keeps_pages && !said.may_have_alarm(),
        approximate: content.is_approximate,
        count: content.count,
        content_bytes: content.bytes,
        page: content.inline.take(),
        ..said
    }
}

/// What freshly folded pages are: one goes into the head, more stand by their fences.
pub(super) fn content_of(mut pages: Vec<(Vec<u8>, PageEntry)>) -> Content {
    let mut content = Content::default();
    for (_, entry) in &pages {
        let base = entry.base.as_ref();
        content.count += base.map_or(0, |base| u64::from(base.count));
        content.bytes += base.map_or(0, |base| base.content_bytes);
    }
    if pages.len() == 1 {
        content.inline = pages.pop().map(|(_, entry)| entry);
    } else {
        content.pages = pages.into_iter().map(|(fence, entry)| (fence, Some(entry))).collect();
    }
    content
}

/// The same pages, about which so many bytes were logged since a state of them was kept.
pub(super) fn inheriting(
    mut pages: Vec<(Vec<u8>, PageEntry)>,
    logged: u64,
) -> Vec<(Vec<u8>, PageEntry)> {
    for (_, entry) in &mut pages {
        entry.logged_since_archived = logged;
    }
    pages
}

pub(super) fn content_of_entry(entry: PageEntry) -> Content {
    Content {
        count: entry.base.as_ref().map_or(0, |base| u64::from(base.count)),
        bytes: entry.base.as_ref().map_or(0, |base| base.content_bytes),
        is_approximate: true,
        inline: Some(entry),
        ..Content::default()
    }
}

/// What an entry counts for: keys of the user, and bytes of content.
pub(super) fn counted(key: &[u8], value: &[u8]) -> (u32, u64) {
    // A user's key is what the user gave, without its kind.
    let is_user = is_user_key(key);
    let bytes = key.len() - usize::from(is_user) + value.len();
    (u32::from(is_user), if is_content(key) { bytes as u64 } else { 0 })
}

/// Whether a full key counts among an object's keys.
pub(super) fn is_user_key(key: &[u8]) -> bool {
    key.first() == Some(&(KeyKind::User as u8))
}
