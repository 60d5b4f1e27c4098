//! Record batches to the bytes of `COPY .. TO STDOUT`.
