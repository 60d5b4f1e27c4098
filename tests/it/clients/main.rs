//! Real clients, each on a server of its own: psql, psycopg 3, and the examples through them.

mod examples;
mod psql;
mod psycopg;
