//! Two sessions and the connections between them, over links that are cut at any byte.

mod ends;
mod fin;
mod hostile;
mod loss;
mod random;
mod versions;
