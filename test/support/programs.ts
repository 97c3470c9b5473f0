/** Where a program a test uses is: the driver's own search. */
export { findProgram } from '#host';
