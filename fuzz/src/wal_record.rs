//! Records, operations and parts: what decodes encodes back to the same bytes.

use dostore::format::record::{FinalPayload, Operations, PartPayload, RecordKind, records};

/// Takes one input.
pub fn run(data: &[u8]) {
    let mut offset = 0;
    for record in records(data) {
        let Ok(record) = record else { break };
        let mut again = record.header.encode().to_vec();
        again.extend_from_slice(record.payload);
        assert_eq!(again, data[offset..offset + again.len()]);
        offset += again.len();
        match record.header.kind {
            RecordKind::Commit | RecordKind::Purge => check_operations(record.payload),
            RecordKind::Part => check_part(record.payload),
            RecordKind::Final => check_final(record.payload),
            RecordKind::AdoptBegin => {}
        }
    }
    check_operations(data);
    check_part(data);
    check_final(data);
}

fn check_operations(payload: &[u8]) {
    let mut operations = Operations::new(payload);
    let mut again = Vec::new();
    while let Some(Ok(operation)) = operations.next() {
        operation.encode(&mut again);
        assert_eq!(again, payload[..operations.offset()]);
    }
}

fn check_part(payload: &[u8]) {
    if let Ok(part) = PartPayload::decode(payload) {
        let mut again = Vec::new();
        part.encode(&mut again);
        assert_eq!(again, payload);
    }
}

fn check_final(payload: &[u8]) {
    if let Ok(last) = FinalPayload::decode(payload) {
        let mut again = Vec::new();
        last.encode(&mut again);
        assert_eq!(again, payload);
    }
}
