/** An attachment of a container to a network, with one spelling of its parts from the runtime to the comment of an element. */

/** Which interface of which container: what a runtime says is alive (`cni.dev/valid-attachments`), and what tells attachments of a network apart. */
export interface ValidAttachment {
  /** CNI_CONTAINERID. */
  containerId: string
  /** CNI_IFNAME: the interface's name inside the container. */
  ifname: string
}

/** The same on a network: the key of everything that a plugin keeps. */
export interface Attachment extends ValidAttachment {
  network: string
}
