//! Stored pages: decoding never panics, and what decodes is found, sorted and built again alike.

use dostore::disk::bytes::SharedBytes;
use dostore::format::Malformed;
use dostore::format::page::{
    BodyForm, PAGE_CHECKSUM_BYTES, PAGE_HEADER_BYTES, Packed, Page, PageBuilder, PageHeader,
    PageItem, PageKind,
};
use dostore::segment::dictionary;

const RAW_BYTES_AT: usize = 56;
const FENCE_BYTES_AT: usize = 68;

/// Takes one input.
pub fn run(data: &[u8]) {
    check(data);
    if let Some(framed) = framed(data) {
        check(&framed);
    }
}

/// The input as header and body, with the lengths put right, which chance would not.
fn framed(data: &[u8]) -> Option<Vec<u8>> {
    let mut page = data.to_vec();
    let body = data.len().checked_sub(PAGE_HEADER_BYTES)?;
    page[..4].copy_from_slice(b"pag\x1A");
    let fence = usize::from(page[FENCE_BYTES_AT] % 4).min(body);
    page[FENCE_BYTES_AT..FENCE_BYTES_AT + 4].copy_from_slice(&(fence as u32).to_le_bytes());
    let length = ((body - fence) as u32).to_le_bytes();
    page[RAW_BYTES_AT..RAW_BYTES_AT + 4].copy_from_slice(&length);
    page[RAW_BYTES_AT + 4..RAW_BYTES_AT + 8].copy_from_slice(&length);
    let whole = (page.len() + PAGE_CHECKSUM_BYTES).next_multiple_of(8);
    page.resize(whole, 0);
    Some(page)
}

fn expand(header: &PageHeader, frame: &[u8], raw: &mut [u8]) -> Result<(), Malformed> {
    if header.dictionary != 0 || raw.len() > 1 << 20 {
        return Err(Malformed("not in this test"));
    }
    dictionary::expand(None, frame, raw)
}

fn check(stored: &[u8]) {
    let _ = dostore::format::page::verified(stored, 1);
    let _ = dostore::format::page::decode_dictionary(stored);
    let stored_bytes = SharedBytes::from(stored);
    let again = Page::decode_again(&stored_bytes, expand);
    if let Ok(page) = &again {
        // Whatever its entries are taken for, nobody panics over them.
        let found = page.items().filter(|(key, _)| page.find(key).is_some()).count();
        std::hint::black_box((found, page.lower_bound(b"\x01")));
    }
    let Ok(page) = Page::decode(&stored_bytes, expand) else { return };
    let again = again.expect("what was walked is found again");
    assert!(again.items().eq(page.items()) && again.ranges().eq(page.ranges()));
    let meta = page.meta();
    let is_delta = meta.kind == PageKind::Delta;
    let mut builder = PageBuilder::new(meta);
    for (index, (key, item)) in page.items().enumerate() {
        assert_eq!(page.find(key), Some(item));
        assert_eq!(page.lower_bound(key), index);
        match item {
            PageItem::Value { codec, value } => {
                let (found, shared) = page.value(index).expect("a value has bytes");
                assert_eq!((found, &*shared), (codec, value));
                builder.push(key, codec, value);
            }
            PageItem::Deleted => {
                assert!(is_delta && page.value(index).is_none());
                builder.push_deleted(key);
            }
        }
    }
    for (start, end) in page.ranges() {
        assert!(page.covers(start) && !page.covers(end));
        builder.push_range(start, end);
    }
    let built = builder.finish();
    assert_eq!(built.content_bytes, page.content_bytes());
    if page.header().form == BodyForm::Raw {
        let mut again = Vec::new();
        built.store(Packed::Raw, 1, &mut again);
        let covered = stored.len() - PAGE_CHECKSUM_BYTES;
        assert_eq!(&again[..covered], &stored[..covered]);
    }
}
