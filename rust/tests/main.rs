//! The modules that know nothing of Python, one file each. `generate` makes their inputs from seeds.

mod columns;
mod escape;
mod generate;
mod json;
mod order;
mod row;
mod write;
