//! Objects as of every commit, against a model: intervals, epochs, skipped states, deltas, hot
//! objects, lives.

mod model;
mod moments;
