//! Units: WAL files that were sealed and what is made of them, against a list of batches.

mod damage;
mod golden;
mod jobs;
mod reads;
mod world;
