/** How long a guest may keep its address: ten years. It never has to renew, so it is not affected while no plugin runs. */
export const leaseSeconds = 10 * 365 * 24 * 3600;
