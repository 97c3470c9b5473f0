// gzip; `#cloud-`; `#!/`; `Content-Type:`; `MIME-Version:`.
const packed =
  /^\s*(?:H4sI|I2Nsb3VkL|IyEv|Q29udGVudC1UeXBl|TUlNRS1WZXJzaW9u)[A-Za-z0-9+/\s]{8,}={0,2}\s*$/;

/**
 * The bytes of user data that a tool has written in base64, such as Terraform's cloudinit_config; undefined for any other
 * text. cloud-init does not decode it, and no path looks so.
 */
export function unpackBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  return packed.test(text) ? Buffer.from(text, 'base64') : undefined;
}
