/** Which part of a NIC's host side failed: the bridge, the tap, the address, the port rules, or the DHCP responder. */
export type NetErrorCode = 'bridge' | 'tap' | 'address' | 'rules' | 'dhcp';

export class NetError extends Error {
  override readonly name = 'NetError';
  readonly code: NetErrorCode;

  constructor(code: NetErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
