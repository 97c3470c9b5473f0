/** The plugin's version, as reported to Nomad; a test compares it with package.json. */
export const version = '0.2.0';
