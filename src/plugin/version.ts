/** Of the plugin, as told to Nomad; the same as in package.json, which a test checks. */
export const version = '0.1.0';
